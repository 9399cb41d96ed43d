"""The batches of an evaluation, and what its loader has in common with those of training."""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch.utils.data import IterableDataset

from src.datasets.loading.collate import collate
from src.datasets.loading.iterable import EvaluationStream, IterableSource, iterate_stream
from src.datasets.loading.samplers import DurationBatchSampler, Key
from src.datasets.loading.workers import BatchIterator, iterate
from src.utils.options import check_choice, check_number, check_whole

Batch = dict[str, Any]

MOST_WORKERS = 256


@dataclass(frozen=True)
class LoaderOptions:
    """How a dataset is cut into batches, and by how many processes it is read.

    Args:
        max_seconds: of audio in a batch, padding included.
        max_items: in a batch; None: any number.
        sorted_first_epoch: the first epoch of training goes from short to long (Deep Speech 2's
            SortaGrad).
        drop_last: leave out the batch of the longest utterances of a training epoch if it isn't
            full, so that all batches of utterances of one duration have one shape.
        num_workers: processes that read items; 0: this one does.

    Raises:
        ValueError: a value is bad; names the key, the value and the values allowed.
    """

    max_seconds: float
    max_items: int | None = None
    sorted_first_epoch: bool = False
    drop_last: bool = False
    num_workers: int = 0

    def __post_init__(self) -> None:
        check_number("dataloader.max_seconds", self.max_seconds)
        check_whole("dataloader.max_items", self.max_items, optional=True)
        for key in ("sorted_first_epoch", "drop_last"):
            check_choice(f"dataloader.{key}", getattr(self, key), (True, False))
        check_whole("dataloader.num_workers", self.num_workers, low=0, high=MOST_WORKERS)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "LoaderOptions":
        """The options in the config's node `dataloader`.

        Raises:
            ValueError: a key is unknown or missing, or has a bad value.
        """
        names = [field.name for field in fields(cls)]
        for key in config:
            if key not in names:
                raise ValueError(f"dataloader.{key}: unknown; the keys are {', '.join(names)}.")
        if "max_seconds" not in config:
            raise ValueError("dataloader.max_seconds: missing; a number above 0.")
        return cls(**{str(key): value for key, value in config.items()})


class EvaluationLoader:
    """One pass over this process's part of a dataset, in whole batches and a fixed order.

    Can be iterated again and again; items are those of epoch 0. Of the batches of all processes,
    the first goes to the first process, and so on in turn.

    Args:
        dataset: read by index (sorted by duration, longest first) or only an iterator.
        options: of the batches; longer utterances than `max_seconds` are alone in theirs.
        rank: of this process.
        world_size: number of processes.
        seed: of the workers' random state.

    Attributes:
        common_batches: how many batches every process has; 0 if that is unknown.
    """

    def __init__(
        self,
        dataset: Any,
        options: LoaderOptions,
        *,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
    ):
        self.dataset, self.options, self.seed = dataset, options, seed
        self.rank, self.world_size = rank, world_size
        self.running: weakref.WeakSet[BatchIterator] = weakref.WeakSet()
        self.keys: list[list[Key]] | None = None
        self.common_batches = 0
        if is_indexed(dataset):
            batches = make_sampler(dataset, options, seed, train=False).batches(0)
            own = range(rank, len(batches), world_size)
            self.keys = [[(0, index) for index in batches[i]] for i in own]
            self.common_batches = len(batches) // world_size
        else:
            self.source = iterable_source(dataset, options, seed, strict=False)

    def __len__(self) -> int:
        """Batches of this process.

        Raises:
            TypeError: the dataset is only an iterator.
        """
        if self.keys is None:
            raise TypeError("the number of batches is unknown.")
        return len(self.keys)

    def __iter__(self) -> BatchIterator:
        if self.keys is None:
            stream = EvaluationStream(self.source, self.rank, self.world_size)
            batches = iterate_stream(stream, self.options.num_workers, self.seed)
        else:
            options = {"batch_sampler": self.keys, "collate_fn": collate}
            batches = iterate(self.dataset, self.options.num_workers, self.seed, **options)
        self.running.add(batches)
        return batches

    def close(self) -> None:
        """End the worker processes."""
        for batches in self.running:
            batches.close()


def is_indexed(dataset: Any) -> bool:
    """Whether a dataset has `__getitem__` and `__len__`.

    Raises:
        ValueError: it can't be iterated either.
    """
    iterable = isinstance(dataset, IterableDataset)
    if not iterable and hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        return True
    if not hasattr(dataset, "iterate") and not hasattr(dataset, "__iter__"):
        raise ValueError(
            f"{type(dataset).__name__}: not a dataset; it needs __getitem__ and __len__, "
            "iterate(epoch), or __iter__."
        )
    return False


def make_sampler(
    dataset: Any, options: LoaderOptions, seed: int, train: bool
) -> DurationBatchSampler:
    """Sampler of batches of similar duration for a dataset that is read by index."""
    if not hasattr(dataset, "durations"):
        raise ValueError(f"{type(dataset).__name__}: has no durations, [N] in seconds.")
    if not len(dataset):
        raise ValueError(f"{type(dataset).__name__}: holds no items.")
    return DurationBatchSampler(
        dataset.durations,
        max_seconds=options.max_seconds,
        max_items=options.max_items,
        shuffle=train,
        seed=seed,
        sorted_first_epoch=train and options.sorted_first_epoch,
        draw=getattr(dataset, "draw", None),
        drop_last=options.drop_last,
    )


def iterable_source(
    dataset: Any, options: LoaderOptions, seed: int, strict: bool
) -> IterableSource:
    """Batches, as lists of items, of a dataset that is only an iterator."""
    return IterableSource(dataset, options.max_seconds, options.max_items, seed=seed, strict=strict)
