"""Batches of a dataset that is only an iterator: neither its length nor its durations are known."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import IterableDataset

from src.datasets.loading.collate import collate
from src.datasets.loading.samplers import Position
from src.datasets.loading.workers import BatchIterator, iterate
from src.utils.random import item_seed

Batch = dict[str, Any]
Item = dict[str, Any]


class IterableSource:
    """A dataset that is only an iterator, cut into batches under the budget.

    Args:
        dataset: has `sample_rate`, and `iterate(epoch)` or `__iter__`.
        max_seconds: of audio in a batch, padding included.
        max_items: in a batch; None: any number.
        seed: of the items' seeds.
        strict: an item longer than `max_seconds` is an error, instead of alone in its batch.
    """

    def __init__(
        self,
        dataset: Any,
        max_seconds: float,
        max_items: int | None,
        *,
        seed: int = 0,
        strict: bool = False,
    ):
        if not hasattr(dataset, "sample_rate"):
            raise ValueError(f"{type(dataset).__name__}: has no sample_rate, in Hz.")
        self.dataset, self.seed, self.strict = dataset, seed, strict
        self.max_seconds, self.max_items = max_seconds, max_items

    def batches(self, epoch: int) -> Iterator[list[Item]]:
        """The items of each batch of an epoch."""
        batch: list[Item] = []
        longest = 0.0
        for item, seconds in self.items(epoch):
            longest = max(longest, seconds)
            full = longest * (len(batch) + 1) > self.max_seconds
            if batch and (full or len(batch) == self.max_items):
                yield batch
                batch, longest = [], seconds
            batch.append(item)
        if batch:
            yield batch

    def items(self, epoch: int) -> Iterator[tuple[Item, float]]:
        """The items of an epoch, each with its duration in seconds."""
        by_epoch = getattr(self.dataset, "iterate", None)
        items: Iterable[Item] = iter(self.dataset) if by_epoch is None else by_epoch(epoch)
        for number, item in enumerate(items):
            audio = item.get("audio")
            seconds = 0.0 if audio is None else audio.shape[-1] / self.dataset.sample_rate
            if self.strict and seconds > self.max_seconds:
                raise ValueError(
                    f"dataloader.max_seconds: an utterance of {seconds:.1f} s does not fit a batch "
                    f"of {self.max_seconds:g} s; raise it, or leave such utterances out."
                )
            yield {"seed": item_seed(self.seed, epoch, number), **item}, seconds


class TrainStream(IterableDataset):
    """(batch, position after it) of one process, endless from a position on.

    Args:
        source: of the batches of each epoch.
        position: after the last step.
        rank: of this process.
        world_size: number of processes.
        batches_in_step: of all processes; if they can't be shared evenly, some batches are empty.
    """

    def __init__(
        self,
        source: IterableSource,
        position: Position,
        rank: int,
        world_size: int,
        batches_in_step: int,
    ):
        self.source, self.position = source, position
        self.rank, self.world_size, self.batches_in_step = rank, world_size, batches_in_step

    def __iter__(self) -> Iterator[tuple[Batch, Position]]:
        own: list[Item] = []
        number = 0  # of batches of the step
        for items, position in self.all_batches():
            if number % self.world_size == self.rank:
                own = items
            number += 1
            if number % self.world_size == 0 or number == self.batches_in_step:
                yield collate(own), position
                own = []
            number %= self.batches_in_step

    def all_batches(self) -> Iterator[tuple[list[Item], Position]]:
        """The items of each batch of all processes, and the position after it.

        Raises:
            ValueError: an epoch has no items.
        """
        epoch, taken = self.position
        while True:
            number = 0
            for number, items in enumerate(self.source.batches(epoch), start=1):
                if number > taken:
                    yield items, (epoch, number)
            if number == 0:
                name = type(self.source.dataset).__name__
                raise ValueError(f"{name}: gave no items in epoch {epoch + 1}.")
            epoch, taken = epoch + 1, 0


class EvaluationStream(IterableDataset):
    """The batches of one process, in one pass."""

    def __init__(self, source: IterableSource, rank: int, world_size: int):
        self.source, self.rank, self.world_size = source, rank, world_size

    def __iter__(self) -> Iterator[Batch]:
        for number, items in enumerate(self.source.batches(0)):
            if number % self.world_size == self.rank:
                yield collate(items)


def iterate_stream(stream: IterableDataset, num_workers: int, seed: int) -> BatchIterator:
    """What a stream yields, read ahead by at most one worker, since more would repeat it."""
    return iterate(stream, min(1, num_workers), seed, batch_size=None, collate_fn=unchanged)


def unchanged(batch: Any) -> Any:
    """The argument, in place of a collate function."""
    return batch
