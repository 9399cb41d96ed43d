"""Loaders: batches of a dataset in a reproducible order, and their worker processes."""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch.utils.data import IterableDataset

from src.datasets.collate import collate
from src.datasets.iterable import EvaluationStream, IterableSource, TrainStream, iterate_stream
from src.datasets.samplers import DurationBatchSampler, Key, TrainOrder
from src.datasets.workers import BatchIterator, iterate
from src.utils.options import check_choice, check_number, check_whole

Batch = dict[str, Any]
Position = tuple[int, int]  # epoch, and batches of it that were handed out

MOST_WORKERS = 256


@dataclass(frozen=True)
class LoaderOptions:
    """How a dataset is cut into batches, and by how many processes it is read.

    Args:
        max_seconds: of audio in a batch, padding included.
        max_items: in a batch; None: any number.
        sorted_first_epoch: the first epoch of training goes from short to long (Deep Speech 2's
            SortaGrad).
        num_workers: processes that read items; 0: this one does.

    Raises:
        ValueError: a value is bad; names the key, the value and the values allowed.
    """

    max_seconds: float
    max_items: int | None = None
    sorted_first_epoch: bool = False
    num_workers: int = 0

    def __post_init__(self) -> None:
        check_number("dataloader.max_seconds", self.max_seconds)
        check_whole("dataloader.max_items", self.max_items, optional=True)
        check_choice("dataloader.sorted_first_epoch", self.sorted_first_epoch, (True, False))
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


# Training ------------------------------------------------------------------------------------


class ResumableLoader(ABC):
    """An endless iterator over one process's training batches, with a position.

    The position is that of the batches handed out, whatever the workers have read ahead.
    """

    def __init__(self) -> None:
        self.position: Position = (0, 0)
        self.batches: BatchIterator | None = None

    @abstractmethod
    def start(self) -> BatchIterator:
        """Batches from the position on."""

    @abstractmethod
    def take(self, batches: BatchIterator) -> tuple[Batch, Position]:
        """The next batch, and the position after it."""

    @abstractmethod
    def steps(self, epoch: int) -> int | None:
        """Optimisation steps of an epoch; None: unknown."""

    @abstractmethod
    def padding_fraction(self) -> float | None:
        """Fraction of the seconds in the first epoch's batches that is padding; None: unknown."""

    @abstractmethod
    def amount(self) -> dict[str, float] | None:
        """`hours` of audio and number of `utterances` of the dataset; None: unknown."""

    def __iter__(self) -> "ResumableLoader":
        return self

    def __next__(self) -> Batch:
        if self.batches is None:
            self.batches = self.start()
        try:
            batch, self.position = self.take(self.batches)
        except BaseException:
            self.close()
            raise
        return batch

    def state_dict(self) -> dict[str, int]:
        """The position, the same in every process."""
        epoch, batch = self.position
        return {"epoch": epoch, "batch": batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the position of another loader's `state_dict`."""
        self.close()
        self.position = (state["epoch"], state["batch"])

    def close(self) -> None:
        """End the worker processes; the next batch starts new ones."""
        if self.batches is not None:
            self.batches.close()
        self.batches = None


class TrainLoader(ResumableLoader):
    """Endless training batches of one process, from a dataset that is read by index.

    The utterances of a batch have similar durations. Each optimisation step takes
    `world_size * accumulate` consecutive batches; the last step of an epoch is filled up with the
    first batches of the epoch. The order is a function of the seed and the position.

    Args:
        dataset: has `durations` [N] in seconds, and gives `dataset[epoch, i]`; it may have
            `draw(epoch)`, which of them an epoch has.
        options: of the batches.
        rank: of this process.
        world_size: number of processes.
        accumulate: batches of each process in a step.
        seed: of the order.

    Raises:
        ValueError: an utterance is longer than `options.max_seconds`.
    """

    def __init__(
        self,
        dataset: Any,
        options: LoaderOptions,
        *,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        seed: int = 0,
    ):
        super().__init__()
        self.dataset, self.options, self.seed = dataset, options, seed
        sampler = make_sampler(dataset, options, seed, train=True)
        self.order = TrainOrder(sampler, rank, world_size, accumulate)

    def steps(self, epoch: int) -> int:
        """Optimisation steps of an epoch."""
        return self.order.steps(epoch)

    def padding_fraction(self) -> float:
        """Fraction of the seconds in the first epoch's batches that is padding."""
        return self.order.sampler.padding_fraction()

    def amount(self) -> dict[str, float]:
        """`hours` of audio and number of `utterances` of the dataset."""
        durations = self.dataset.durations
        return {"hours": round(float(sum(durations)) / 3600, 4), "utterances": len(durations)}

    def start(self) -> BatchIterator:
        """Batches from the position on."""
        return iterate(
            self.dataset,
            self.options.num_workers,
            self.seed,
            batch_sampler=self.order.keys(*self.position),
            collate_fn=collate,
        )

    def take(self, batches: BatchIterator) -> tuple[Batch, Position]:
        """The next batch, and the position after it."""
        batch = next(batches)
        epoch, taken = self.position
        if taken + 1 == self.order.batches_in(epoch):
            return batch, (epoch + 1, 0)
        return batch, (epoch, taken + 1)


class IterableTrainLoader(ResumableLoader):
    """Endless training batches of one process, from a dataset that is only an iterator.

    Items are taken as they come and cut into batches under the budget. Every process iterates the
    whole dataset, and of each `world_size` consecutive batches takes its own one. A resumed run
    iterates the epoch again and drops what was handed out before. With workers, one process reads
    ahead; more can't share an iterator.

    Args:
        dataset: has `sample_rate` in Hz, and gives the items of an epoch by `iterate(epoch)` or
            else by `iter(dataset)`, the same ones in the same order whenever it is asked; an item
            without `seed` gets one.
        options: of the batches; `sorted_first_epoch` isn't allowed.
        rank: of this process.
        world_size: number of processes.
        accumulate: batches of each process in a step; has no effect on the order.
        seed: of the items' seeds.

    Raises:
        ValueError: the dataset has no sample rate, or an option can't be followed.
    """

    def __init__(
        self,
        dataset: Any,
        options: LoaderOptions,
        *,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        seed: int = 0,
    ):
        super().__init__()
        if options.sorted_first_epoch:
            raise ValueError(
                "dataloader.sorted_first_epoch: true; false for a dataset that is only an iterator."
            )
        self.source = iterable_source(dataset, options, seed, strict=True)
        self.options, self.rank, self.world_size, self.seed = options, rank, world_size, seed

    def steps(self, epoch: int) -> None:
        """None: the length of an epoch is unknown."""

    def padding_fraction(self) -> None:
        """None: the durations are unknown."""

    def amount(self) -> None:
        """None: the durations are unknown."""

    def start(self) -> BatchIterator:
        """Batches from the position on, each with the position after it."""
        stream = TrainStream(self.source, self.position, self.rank, self.world_size)
        return iterate_stream(stream, self.options.num_workers, self.seed)

    def take(self, batches: BatchIterator) -> tuple[Batch, Position]:
        """The next batch, and the position after it."""
        batch, (epoch, taken) = next(batches)  # pinned memory makes lists of tuples
        return batch, (epoch, taken)


def train_loader(
    dataset: Any,
    options: LoaderOptions,
    *,
    rank: int = 0,
    world_size: int = 1,
    accumulate: int = 1,
    seed: int = 0,
) -> TrainLoader | IterableTrainLoader:
    """Endless training batches of one process, of any dataset.

    Args:
        dataset: read by index, if it has `__getitem__` and `__len__`; otherwise iterated.
        options: of the batches.
        rank: of this process.
        world_size: number of processes.
        accumulate: batches of each process in a step.
        seed: of the order.
    """
    kind = TrainLoader if is_indexed(dataset) else IterableTrainLoader
    return kind(
        dataset, options, rank=rank, world_size=world_size, accumulate=accumulate, seed=seed
    )


# Evaluation ----------------------------------------------------------------------------------


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
            self.keys = [[(0, index) for index in batch] for batch in batches[rank::world_size]]
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


# Of training and evaluation ------------------------------------------------------------------


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
    )


def iterable_source(
    dataset: Any, options: LoaderOptions, seed: int, strict: bool
) -> IterableSource:
    """Batches, as lists of items, of a dataset that is only an iterator."""
    return IterableSource(dataset, options.max_seconds, options.max_items, seed=seed, strict=strict)
