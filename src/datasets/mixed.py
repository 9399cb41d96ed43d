"""Training sets mixed of several corpora, each with its part of every epoch."""

import logging
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from src.datasets.base_dataset import Item
from src.utils.options import check_choice, check_number, check_whole, refuse
from src.utils.random import generator

logger = logging.getLogger(__name__)

NAME = re.compile(r"[\w-]+")  # of a corpus; ids begin with it and a dot


class MixedDataset(Dataset):
    """Items of several corpora, drawn anew for each epoch by the weights of the corpora.

    A weight is the part of the seconds of audio that a corpus has in an epoch, relative to the
    weights of the others. Batches are cut from the whole epoch by duration, so a corpus has that
    part of a batch on average, not in each one.

    Of a corpus, every utterance is drawn once before any is drawn again, in this or a later epoch:
    an epoch continues where the one before ended, in an order that follows from the seed. With
    weights proportional to the hours of the corpora, each utterance is drawn once in every epoch.

    `dataset[epoch, i + k * len(dataset)]` is item i as it is drawn in the k-th pass over its corpus
    of those that the epoch touches, counted from 0: an epoch that ends one pass and begins the next
    has items of both. Its random numbers are those of its corpus, of whose items those of epoch p
    are taken in the p-th pass over the corpus. Ids are `<name of the corpus>.<id in it>`, with
    `~<k>` if k isn't 0. Read by index, as in an evaluation, each utterance is there once.

    Args:
        corpora: datasets by name, each with `durations`, `__len__` and `dataset[epoch, i]`.
        weights: of the corpora by name; None leaves one out.
        hours: of audio in an epoch; None: as much as all corpora have together.
        limit: maximum number of utterances of each corpus, the first ones; None: all.
        same_epochs: whether every epoch equals the first one.
        seed: of the drawing.

    Attributes:
        has_targets: whether every item has the targets that loss and metrics need.
        durations: of the utterances of all corpora in seconds, [N].

    Raises:
        ValueError: there are no corpora, only some have targets, or an option has a bad value.
    """

    def __init__(
        self,
        corpora: Mapping[str, Any],
        weights: Mapping[str, float | None],
        *,
        hours: float | None = None,
        limit: int | None = None,
        same_epochs: bool = False,
        seed: int = 0,
    ):
        check_number("hours", hours, high=1e5, optional=True)
        check_whole("limit", limit, optional=True)
        check_choice("same_epochs", same_epochs, (True, False))
        weights = check_weights(weights)
        self.names = list(weights)
        self.corpora = [corpora[name] for name in self.names]
        for name, corpus in zip(self.names, self.corpora, strict=True):
            if not all(hasattr(corpus, key) for key in ("durations", "__len__", "__getitem__")):
                kind = type(corpus).__name__
                raise ValueError(f"weights.{name}: {kind} has no length; it can't be mixed.")
        self.has_targets = all_or_none(self.names, self.corpora)
        self.sizes = [min(limit or len(corpus), len(corpus)) for corpus in self.corpora]
        self.starts = np.cumsum([0, *self.sizes])  # of the corpora among all items
        parts = zip(self.corpora, self.sizes, strict=True)
        self.durations = np.concatenate([corpus.durations[:size] for corpus, size in parts])
        self.same_epochs, self.seed = same_epochs, seed
        self.drawn = self.count_drawn(list(weights.values()), hours)

    def count_drawn(self, weights: list[float], hours: float | None) -> list[int]:
        """The number of utterances of each corpus in an epoch; logs hours and fractions."""
        total = self.durations.sum() if hours is None else 3600 * hours
        drawn = []
        for i, (name, size) in enumerate(zip(self.names, self.sizes, strict=True)):
            seconds = self.durations[self.starts[i] : self.starts[i + 1]].sum()
            fraction = weights[i] / sum(weights)
            drawn.append(max(1, round(size * fraction * total / seconds)))
            logger.info(
                "corpus %s: %.3f h, %d utterances; %.1f %% of an epoch: %.3f h, each utterance "
                "%.2f times",
                name,
                seconds / 3600,
                size,
                100 * fraction,
                drawn[-1] / size * seconds / 3600,
                drawn[-1] / size,
            )
        return drawn

    def draw(self, epoch: int) -> np.ndarray:
        """Indices of the items of an epoch, [n]; a function of the seed and the epoch."""
        epoch = 0 if self.same_epochs else epoch
        parts = []
        for i, (size, count) in enumerate(zip(self.sizes, self.drawn, strict=True)):
            first, last = epoch * count // size, ((epoch + 1) * count - 1) // size
            passes = [self.permutation(i, number) for number in range(first, last + 1)]
            repeated = np.repeat(np.arange(len(passes)), size) * len(self)
            skipped = epoch * count - first * size
            indices = self.starts[i] + np.concatenate(passes) + repeated
            parts.append(indices[skipped : skipped + count])
        return np.concatenate(parts)

    def permutation(self, corpus: int, number: int) -> np.ndarray:
        """The order of the utterances of a corpus in a pass over it."""
        source = generator(self.seed, f"{self.names[corpus]}/{number}")
        return torch.randperm(self.sizes[corpus], generator=source).numpy()

    def __len__(self) -> int:
        return len(self.durations)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        epoch = 0 if self.same_epochs else epoch
        repetition, index = divmod(index, len(self))
        i = int(np.searchsorted(self.starts, index, side="right")) - 1
        first = epoch * self.drawn[i] // self.sizes[i]
        item = self.corpora[i][first + repetition, index - int(self.starts[i])]
        if "id" not in item:  # of a file that couldn't be read
            return item
        again = f"~{repetition}" if repetition else ""
        return item | {"id": f"{self.names[i]}.{item['id']}{again}"}


def check_weights(weights: Mapping[str, float | None]) -> dict[str, float]:
    """The weights of corpora by name, without those that are left out.

    Raises:
        ValueError: one is no number above 0, none is left, or a name has other characters than
            letters, digits, `_` and `-`.
    """
    kept = {}
    for name, weight in weights.items():
        check_number(f"weights.{name}", weight, optional=True)
        if not NAME.fullmatch(str(name)):
            refuse("weights", name, "names of letters, digits, '_' and '-'")
        if weight is not None:
            kept[str(name)] = float(weight)
    if not kept:
        raise ValueError("weights: no corpus; a weight above 0 for each, e.g. {demo: 1, own: 2}.")
    return kept


def all_or_none(names: list[str], corpora: list[Any]) -> bool:
    """Whether every corpus has targets.

    Raises:
        ValueError: only some have.
    """
    with_targets = [getattr(corpus, "has_targets", True) for corpus in corpora]
    if any(with_targets) and not all(with_targets):
        without, other = names[with_targets.index(False)], names[with_targets.index(True)]
        raise ValueError(f"weights: '{without}' has no targets, but '{other}' has; all or none.")
    return all(with_targets)
