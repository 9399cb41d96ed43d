"""Training batches in an order that no number of processes changes, from any position on."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from src.datasets.loading.collate import collate
from src.datasets.loading.iterable import TrainStream, iterate_stream
from src.datasets.loading.loaders import (
    Batch,
    LoaderOptions,
    is_indexed,
    iterable_source,
    make_sampler,
)
from src.datasets.loading.samplers import Key, Position, Share, TrainOrder
from src.datasets.loading.workers import BatchIterator, iterate


class ResumableLoader(ABC):
    """An endless iterator over one process's training batches, with a position.

    The position is that of the batches handed out, whatever the workers have read ahead. It counts
    those of all processes, so that another number of processes can go on from it. Each batch says
    in `batches_in_step` how many all processes have together in its optimisation step.

    A step keeps its number of batches when another number of processes goes on with it: fewer take
    more batches each, and more have one each as long as there are enough. If there are more
    processes than batches in a step, it has one for each process from then on.

    Args:
        rank: of this process.
        world_size: number of processes.
        accumulate: batches of each process in a step.

    Attributes:
        position: epoch, and batches of it that all processes have taken.
        batches_in_step: of all processes together.
    """

    batches_counted = 1  # processes whose batches a position of an earlier version counted

    def __init__(self, rank: int, world_size: int, accumulate: int) -> None:
        self.rank, self.world_size = rank, world_size
        self.batches_in_step = world_size * accumulate
        self.position: Position = (0, 0)
        self.batches: BatchIterator | None = None

    @property
    def accumulate(self) -> int:
        """Batches of this process in a step; in some steps, or at some places, they are empty."""
        return -(-self.batches_in_step // self.world_size)

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
    def steps_left(self, epoch: int) -> int | None:
        """Those of its optimisation steps that come after the position; None: unknown."""

    @abstractmethod
    def plan(self, epochs: int) -> list[int] | None:
        """Optimisation steps of each of the first epochs, of large datasets estimated."""

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
        epoch, taken = self.position
        return {"epoch": epoch, "batches": taken, "batches_in_step": self.batches_in_step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the position of another loader's `state_dict`."""
        self.close()
        if "batch" in state:  # of an earlier version, with as many processes
            self.position = (state["epoch"], state["batch"] * self.batches_counted)
            return
        self.position = (state["epoch"], state["batches"])
        self.batches_in_step = max(state["batches_in_step"], self.world_size)

    def close(self) -> None:
        """End the worker processes; the next batch starts new ones."""
        if self.batches is not None:
            self.batches.close()
        self.batches = None


class TrainLoader(ResumableLoader):
    """Endless training batches of one process, from a dataset that is read by index.

    The utterances of a batch have similar durations. The order is a function of the seed and the
    position; each optimisation step takes the next batches of it, and the last one of an epoch
    those that are left, so that some processes may get a batch without items.

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
        super().__init__(rank, world_size, accumulate)
        self.dataset, self.options, self.seed = dataset, options, seed
        self.sampler = make_sampler(dataset, options, seed, train=True)
        self.ahead: deque[Share] = deque()  # of the batches that are being read
        self.batches_counted = world_size

    @property
    def order(self) -> TrainOrder:
        """The order of batches, of which this process takes its share."""
        return TrainOrder(self.sampler, self.rank, self.world_size, self.batches_in_step)

    def steps(self, epoch: int) -> int:
        """Optimisation steps of an epoch."""
        return self.order.steps(epoch)

    def steps_left(self, epoch: int) -> int:
        """Those of its optimisation steps that come after the position."""
        current, taken = self.position
        if epoch < current:
            return 0
        return self.order.steps(epoch, taken if epoch == current else 0)

    def plan(self, epochs: int) -> list[int]:
        """Optimisation steps of each of the first epochs, of large datasets estimated."""
        return [-(-count // self.batches_in_step) for count in self.sampler.count(epochs)]

    def padding_fraction(self) -> float:
        """Fraction of the seconds in the first epoch's batches that is padding."""
        return self.sampler.padding_fraction()

    def amount(self) -> dict[str, float]:
        """`hours` of audio and number of `utterances` of the dataset."""
        durations = self.dataset.durations
        return {"hours": round(float(np.sum(durations)) / 3600, 4), "utterances": len(durations)}

    def start(self) -> BatchIterator:
        """Batches from the position on."""
        self.ahead.clear()
        return iterate(
            self.dataset,
            self.options.num_workers,
            self.seed,
            batch_sampler=read_ahead(self.order.shares(self.position), self.ahead),
            collate_fn=collate,
        )

    def take(self, batches: BatchIterator) -> tuple[Batch, Position]:
        """The next batch, and the position after it."""
        batch = next(batches)
        share = self.ahead.popleft()
        return batch | {"batches_in_step": share.batches_in_step}, share.position


def read_ahead(shares: Iterator[Share], ahead: deque[Share]) -> Iterator[list[Key]]:
    """Epoch and index of the items of each share, which is remembered.

    No method of the loader: its workers' finalizer would then keep the loader alive.
    """
    for share in shares:
        ahead.append(share)
        yield share.keys


class IterableTrainLoader(ResumableLoader):
    """Endless training batches of one process, from a dataset that is only an iterator.

    Items are taken as they come and cut into batches under the budget. Every process iterates the
    whole dataset, and takes its own ones of the batches of each step, which may be of two epochs. A
    resumed run iterates the epoch again and drops what was handed out before. With workers, one
    process reads ahead; more can't share an iterator.

    Args:
        dataset: has `sample_rate` in Hz, and gives the items of an epoch by `iterate(epoch)` or
            else by `iter(dataset)`, the same ones in the same order whenever it is asked; an item
            without `seed` gets one.
        options: of the batches; `sorted_first_epoch` and `drop_last` aren't allowed.
        rank: of this process.
        world_size: number of processes.
        accumulate: batches of each process in a step.
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
        super().__init__(rank, world_size, accumulate)
        for key in ("sorted_first_epoch", "drop_last"):
            if getattr(options, key):
                raise ValueError(
                    f"dataloader.{key}: true; set dataloader.{key}=false for a dataset that is "
                    "only an iterator."
                )
        self.source = iterable_source(dataset, options, seed, strict=True)
        self.options, self.seed = options, seed

    def steps(self, epoch: int) -> None:
        """None: the length of an epoch is unknown."""

    def steps_left(self, epoch: int) -> None:
        """None: the length of an epoch is unknown."""

    def plan(self, epochs: int) -> None:
        """None: the length of an epoch is unknown."""

    def padding_fraction(self) -> None:
        """None: the durations are unknown."""

    def amount(self) -> None:
        """None: the durations are unknown."""

    def start(self) -> BatchIterator:
        """Batches from the position on, each with the position after it."""
        stream = TrainStream(
            self.source, self.position, self.rank, self.world_size, self.batches_in_step
        )
        return iterate_stream(stream, self.options.num_workers, self.seed)

    def take(self, batches: BatchIterator) -> tuple[Batch, Position]:
        """The next batch, and the position after it."""
        batch, (epoch, taken) = next(batches)  # pinned memory makes lists of tuples
        return batch | {"batches_in_step": self.batches_in_step}, (epoch, taken)


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
