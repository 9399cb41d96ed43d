"""Batches of similar duration, in an order that depends only on seed and position."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from src.utils.random import generator

Key = tuple[int, int]  # epoch and index of an item

JITTER = 0.1  # relative noise on durations before sorting, so that batches differ between epochs


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
    ):
        if shuffle and durations.max() > max_seconds:
            raise ValueError(
                f"dataloader.max_seconds: an utterance of {durations.max():.1f} s does not fit a "
                f"batch of {max_seconds:g} s; raise it, or set max_duration of the dataset."
            )
        self.durations, self.max_seconds, self.max_items = durations, max_seconds, max_items
        self.shuffle, self.seed = shuffle, seed
        self.sorted_first_epoch, self.draw = sorted_first_epoch, draw
        self.made: tuple[int, list[list[int]]] | None = None

    def batches(self, epoch: int) -> list[list[int]]:
        """The indices of each batch of an epoch; a function of the seed and the epoch."""
        if self.made is None or self.made[0] != epoch:
            self.made = (epoch, self.make(epoch))
        return self.made[1]

    def make(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, computed: durations with noise, sorted, cut, shuffled."""
        indices = np.arange(len(self.durations))
        if not self.shuffle:
            return self.cut(indices[np.argsort(-self.durations, kind="stable")])
        if self.draw is not None:
            indices = self.draw(epoch)
        seconds = self.seconds(indices)
        if self.sorted_first_epoch and epoch == 0:
            return self.cut(indices[np.argsort(seconds, kind="stable")])
        source = generator(self.seed, f"batches/{epoch}")
        noise = torch.rand(len(indices), generator=source, dtype=torch.float64).numpy()
        batches = self.cut(indices[np.argsort(seconds * (1 + JITTER * noise), kind="stable")])
        order = torch.randperm(len(batches), generator=source).tolist()
        return [batches[i] for i in order]

    def seconds(self, indices: np.ndarray | list[int]) -> np.ndarray:
        """Durations of the utterances at some indices, repetitions included."""
        return self.durations[np.asarray(indices) % len(self.durations)]

    def cut(self, order: np.ndarray) -> list[list[int]]:
        """An order of indices, cut into batches of at most `max_seconds` and `max_items`.

        An utterance longer than `max_seconds` is alone in its batch.
        """
        batches: list[list[int]] = []
        batch: list[int] = []
        longest = 0.0
        for index, seconds in zip(order.tolist(), self.seconds(order).tolist(), strict=True):
            longest = max(longest, seconds)
            full = longest * (len(batch) + 1) > self.max_seconds or len(batch) == self.max_items
            if batch and full:
                batches.append(batch)
                batch, longest = [], seconds
            batch.append(index)
        return [*batches, batch]

    def padding_fraction(self, epoch: int = 0) -> float:
        """Fraction of the seconds in an epoch's batches that is padding."""
        batches = [self.seconds(batch) for batch in self.batches(epoch)]
        padded = sum(len(seconds) * seconds.max() for seconds in batches)
        return float(1 - sum(seconds.sum() for seconds in batches) / padded)


class TrainOrder:
    """The endless order of one process's training batches.

    Each step of all processes takes `world_size * accumulate` consecutive batches of the sampler.
    The last step of an epoch is filled up with the first batches of the epoch.

    Args:
        sampler: of the batches of each epoch.
        rank: of this process.
        world_size: number of processes.
        accumulate: batches of each process in a step.
    """

    def __init__(self, sampler: DurationBatchSampler, rank: int, world_size: int, accumulate: int):
        self.sampler = sampler
        self.rank, self.world_size, self.accumulate = rank, world_size, accumulate

    def steps(self, epoch: int) -> int:
        """Optimisation steps of an epoch."""
        return -(-len(self.sampler.batches(epoch)) // (self.world_size * self.accumulate))

    def batches_in(self, epoch: int) -> int:
        """Batches of this process in an epoch."""
        return self.steps(epoch) * self.accumulate

    def keys(self, epoch: int, taken: int) -> Iterator[list[Key]]:
        """Epoch and index of the items of each batch.

        Args:
            epoch: to begin with.
            taken: batches of this process in that epoch to skip.
        """
        while True:
            batches = self.sampler.batches(epoch)
            for i in range(taken, self.batches_in(epoch)):
                batch = batches[(i * self.world_size + self.rank) % len(batches)]
                yield [(epoch, index) for index in batch]
            epoch, taken = epoch + 1, 0
