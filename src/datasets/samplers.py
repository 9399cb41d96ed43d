"""Batches of like duration, in an order that is a function of the seed and the position."""

from collections.abc import Iterator

import numpy as np
import torch

from src.utils.random import generator

Key = tuple[int, int]  # epoch and index of an item

JITTER = 0.1  # by which durations are blurred before sorting, so that batches differ each epoch


class DurationBatchSampler:
    """Cuts a dataset into batches of like duration.

    Args:
        durations: [N], in seconds.
        max_seconds: of audio in a batch, its padding included.
        max_items: in a batch.
        shuffle: another cut and order each epoch; else by duration, longest first.
        seed: of the shuffling.
        sorted_first_epoch: the first epoch goes from short to long (Deep Speech 2's SortaGrad).

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
    ):
        if shuffle and durations.max() > max_seconds:
            raise ValueError(
                f"dataloader.max_seconds: an utterance of {durations.max():.1f} s does not fit a "
                f"batch of {max_seconds:g} s; raise it, or set max_duration of the dataset."
            )
        self.durations, self.max_seconds, self.max_items = durations, max_seconds, max_items
        self.shuffle, self.seed = shuffle, seed
        self.sorted_first_epoch = sorted_first_epoch
        self.made: tuple[int, list[list[int]]] | None = None

    def batches(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, as indices; a function of the seed and the epoch."""
        if self.made is None or self.made[0] != epoch:
            self.made = (epoch, self.make(epoch))
        return self.made[1]

    def make(self, epoch: int) -> list[list[int]]:
        """Sort by (blurred) duration, cut, shuffle."""
        if not self.shuffle:
            return self.cut(np.argsort(-self.durations, kind="stable"))
        if self.sorted_first_epoch and epoch == 0:
            return self.cut(np.argsort(self.durations, kind="stable"))
        source = generator(self.seed, f"batches/{epoch}")
        blur = torch.rand(len(self.durations), generator=source, dtype=torch.float64).numpy()
        batches = self.cut(np.argsort(self.durations * (1 + JITTER * blur), kind="stable"))
        order = torch.randperm(len(batches), generator=source).tolist()
        return [batches[i] for i in order]

    def cut(self, order: np.ndarray) -> list[list[int]]:
        """Cut an order into batches under the budget; a longer utterance is alone in its batch."""
        batches: list[list[int]] = []
        batch: list[int] = []
        longest = 0.0
        for index, seconds in zip(order.tolist(), self.durations[order].tolist(), strict=True):
            longest = max(longest, seconds)
            full = longest * (len(batch) + 1) > self.max_seconds or len(batch) == self.max_items
            if batch and full:
                batches.append(batch)
                batch, longest = [], seconds
            batch.append(index)
        return [*batches, batch]

    def padding_share(self, epoch: int = 0) -> float:
        """Share of the seconds in an epoch's batches that is padding."""
        padded = sum(len(b) * self.durations[b].max() for b in self.batches(epoch))
        return float(1 - self.durations.sum() / padded)


class BatchStream:
    """The endless order of one process's training batches, from any position on.

    Each step of all processes takes `world_size * accumulate` consecutive batches. An epoch that
    doesn't fill its last step goes on with its own first batches.

    Args:
        sampler: the batches of each epoch.
        rank: of this process.
        world_size: number of processes.
        accumulate: batches a step and process.
        position: (epoch, batches of this process already taken from it).
    """

    def __init__(
        self,
        sampler: DurationBatchSampler,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        position: tuple[int, int] = (0, 0),
    ):
        self.sampler, self.rank, self.world_size = sampler, rank, world_size
        self.accumulate, self.position = accumulate, position

    def starting_at(self, epoch: int, batch: int) -> "BatchStream":
        """The same order from another position on."""
        return BatchStream(
            self.sampler, self.rank, self.world_size, self.accumulate, (epoch, batch)
        )

    def steps(self, epoch: int) -> int:
        """Optimisation steps of an epoch."""
        return -(-len(self.sampler.batches(epoch)) // (self.world_size * self.accumulate))

    def batches_in(self, epoch: int) -> int:
        """Batches of this process in an epoch."""
        return self.steps(epoch) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, taken = self.position
        while True:
            batches = self.sampler.batches(epoch)
            for i in range(taken, self.batches_in(epoch)):
                batch = batches[(i * self.world_size + self.rank) % len(batches)]
                yield [(epoch, index) for index in batch]
            epoch, taken = epoch + 1, 0


class EvaluationBatches:
    """One pass over a split: this process's share of whole batches, in a fixed order."""

    def __init__(self, sampler: DurationBatchSampler, rank: int = 0, world_size: int = 1):
        self.batches = sampler.batches(0)[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return ([(0, index) for index in batch] for batch in self.batches)
