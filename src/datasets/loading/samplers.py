"""Batches of similar duration, in an order that depends only on seed and position."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from src.utils.random import generator

Key = tuple[int, int]  # epoch and index of an item
Position = tuple[int, int]  # epoch, and batches of it that all processes have taken

JITTER = 0.1  # relative noise on durations before sorting, so that batches differ between epochs
BLOCK = 1 << 18  # utterances that are plain numbers of Python at a time
COUNTED = 10_000_000  # utterances whose batches are counted to know the length of a run


class Batches(Sequence):
    """Batches as parts of one array, since ten million lists would need gigabytes.

    Args:
        indices: of the utterances of all batches, [n].
        starts: of each batch in `indices`, [B].
        ends: of each batch, [B].
    """

    def __init__(self, indices: np.ndarray, starts: np.ndarray, ends: np.ndarray):
        self.indices, self.starts, self.ends = indices, starts, ends

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> list[int]:  # type: ignore[override]
        return self.indices[self.starts[i] : self.ends[i]].tolist()

    def select(self, order: np.ndarray) -> "Batches":
        """Some batches, or all in another order."""
        return Batches(self.indices, self.starts[order], self.ends[order])


class DurationBatchSampler:
    """Cuts a dataset into batches of utterances of similar duration.

    Args:
        durations: [N], in seconds.
        max_seconds: of audio in a batch, its padding included.
        max_items: in a batch.
        shuffle: other batches in another order each epoch; else by duration, longest first.
        seed: of the shuffling.
        sorted_first_epoch: the first epoch goes from short to long (Deep Speech 2's SortaGrad).
        draw: epoch -> indices of its utterances [n], where i + k * N is the utterance i once more;
            without `shuffle` of no effect. None: every utterance once.
        drop_last: leave out the batch of the longest utterances if it isn't full, unless it is
            the only one; for utterances of one duration. Without `shuffle` of no effect.

    Raises:
        ValueError: an utterance is longer than `max_seconds`.
    """

    def __init__(
        self,
        durations: np.ndarray,
        max_seconds: float,
        max_items: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        sorted_first_epoch: bool = False,
        draw: Callable[[int], np.ndarray] | None = None,
        drop_last: bool = False,
    ):
        if shuffle and durations.max() > max_seconds:
            raise ValueError(
                f"dataloader.max_seconds: an utterance of {durations.max():.1f} s does not fit a "
                f"batch of {max_seconds:g} s; raise it, or set max_duration of the dataset."
            )
        self.durations, self.max_seconds, self.max_items = durations, max_seconds, max_items
        self.shuffle, self.seed = shuffle, seed
        self.sorted_first_epoch, self.draw, self.drop_last = sorted_first_epoch, draw, drop_last
        self.made: tuple[int, Batches] | None = None

    def batches(self, epoch: int) -> Batches:
        """The indices of each batch of an epoch; a function of the seed and the epoch."""
        if self.made is None or self.made[0] != epoch:
            self.made = None  # frees the memory
            self.made = (epoch, self.make(epoch))
        return self.made[1]

    def make(self, epoch: int) -> Batches:
        """The batches of an epoch, computed: durations with noise, sorted, cut, shuffled."""
        if not self.shuffle:
            return self.cut(np.argsort(-self.durations, kind="stable"))
        drawn = None if self.draw is None else self.draw(epoch)
        seconds = self.durations if drawn is None else self.seconds(drawn)
        if self.sorted_first_epoch and epoch == 0:
            return self.full(self.cut(in_order(drawn, np.argsort(seconds, kind="stable"))))
        source = generator(self.seed, f"batches/{epoch}")
        noise = torch.rand(len(seconds), generator=source, dtype=torch.float64).numpy()
        noise *= JITTER  # in place, as these arrays are the largest ones
        noise += 1
        noise *= seconds
        batches = self.full(self.cut(in_order(drawn, np.argsort(noise, kind="stable"))))
        return batches.select(torch.randperm(len(batches), generator=source).numpy())

    def seconds(self, indices: np.ndarray | list[int]) -> np.ndarray:
        """Durations of the utterances at some indices, repetitions included."""
        return self.durations[np.asarray(indices) % len(self.durations)]

    def cut(self, order: np.ndarray) -> Batches:
        """An order of indices, cut into batches of at most `max_seconds` and `max_items`.

        An utterance longer than `max_seconds` is alone in its batch.
        """
        most, budget = self.max_items or len(order), self.max_seconds
        starts, i, size, longest = [0], 0, 0, 0.0  # size and longest: of the batch so far
        for first in range(0, len(order), BLOCK):
            for seconds in self.seconds(order[first : first + BLOCK]).tolist():
                longest = seconds if seconds > longest else longest
                size += 1
                if size > 1 and (longest * size > budget or size > most):
                    starts.append(i)
                    size, longest = 1, seconds
                i += 1
        if order.max(initial=0) < 1 << 31:
            order = order.astype(np.int32)
        return Batches(order, np.array(starts), np.array([*starts[1:], len(order)]))

    def full(self, batches: Batches) -> Batches:
        """Batches in the order in which they were cut, without the last if it isn't full."""
        if not self.drop_last or len(batches) == 1:
            return batches
        last = batches[len(batches) - 1]
        size = len(last) + 1
        fits = self.seconds(last).max() * size <= self.max_seconds
        if not fits or size > (self.max_items or size):
            return batches
        ends = batches.ends[:-1]
        return Batches(batches.indices[: ends[-1]], batches.starts[:-1], ends)

    def count(self, epochs: int) -> list[int]:
        """Batches of each of the first epochs; of large datasets partly an estimate.

        Exact as long as the epochs have `COUNTED` utterances together, and for the first one; later
        epochs are taken to be as long as these on average.
        """
        exact = max(1, min(epochs, COUNTED // len(self.durations)))
        counts = [len(self.batches(epoch)) for epoch in reversed(range(exact))][::-1]
        return counts + [round(sum(counts) / exact)] * (epochs - exact)

    def padding_fraction(self, epoch: int = 0) -> float:
        """Fraction of the seconds in an epoch's batches that is padding."""
        batches = self.batches(epoch)
        starts = np.sort(batches.starts)
        seconds = self.seconds(batches.indices)
        sizes = np.diff(np.append(starts, len(seconds)))
        padded = float((np.maximum.reduceat(seconds, starts) * sizes).sum())
        return 1 - float(seconds.sum()) / padded


def in_order(drawn: np.ndarray | None, order: np.ndarray) -> np.ndarray:
    """Drawn indices in an order; None: all indices are drawn, and the order is theirs."""
    return order if drawn is None else drawn[order]


@dataclass(frozen=True)
class Share:
    """A batch of one process.

    Attributes:
        keys: epoch and index of its items; none where the others have the last ones of an epoch.
        batches_in_step: that all processes have together in its optimisation step.
        position: after it.
    """

    keys: list[Key]
    batches_in_step: int
    position: Position


class TrainOrder:
    """The endless order of training batches, of which each process takes its share.

    There is one order of batches for all processes, a function of the seed. Each optimisation step
    takes the next `batches_in_step` of it, in turn for each process; the last step of an epoch
    takes those that are left, so that some processes may have none. So each utterance in the
    batches of an epoch is seen once, however many processes there are and whenever their number
    changes.

    Args:
        sampler: of the batches of each epoch.
        rank: of this process.
        world_size: number of processes.
        batches_in_step: of all processes.
    """

    def __init__(
        self, sampler: DurationBatchSampler, rank: int, world_size: int, batches_in_step: int
    ):
        self.sampler = sampler
        self.rank, self.world_size, self.batches_in_step = rank, world_size, batches_in_step

    def steps(self, epoch: int, taken: int = 0) -> int:
        """Optimisation steps of an epoch, of which some batches may have been taken."""
        return -(-(len(self.sampler.batches(epoch)) - taken) // self.batches_in_step)

    def shares(self, position: Position) -> Iterator[Share]:
        """The batches of this process from a position on."""
        epoch, taken = position
        while True:
            batches = self.sampler.batches(epoch)
            for first in range(taken, len(batches), self.batches_in_step):
                last = min(first + self.batches_in_step, len(batches))
                for start in range(first, first + self.batches_in_step, self.world_size):
                    i, end = start + self.rank, min(start + self.world_size, last)
                    keys = [(epoch, index) for index in batches[i]] if i < end else []
                    after = (epoch, end) if end < len(batches) else (epoch + 1, 0)
                    yield Share(keys, last - first, after)
            epoch, taken = epoch + 1, 0
