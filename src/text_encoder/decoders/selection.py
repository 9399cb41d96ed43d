"""The best hypotheses of each utterance of a batch.

Probabilities are compared by the upper halves of their floats first, which order them to a
millionth and are sorted several times as fast.
"""

import numpy as np

SMALLEST = np.finfo(np.float64).tiny
FEW = 64  # new hypotheses of an utterance in a frame; others are handled apart


def high_words(values: np.ndarray) -> np.ndarray:
    """The upper halves of floats from 0 on, int32, which rise with them and are quick to sort."""
    return (values.view(np.int64) >> 32).astype(np.int32)


def from_high_words(high: np.ndarray) -> np.ndarray:
    """The smallest floats with some upper halves; above 0."""
    return np.maximum((high.astype(np.int64) << 32).view(np.float64), SMALLEST)


def lowest_of(stays: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The probability that hypotheses need to be among the best `size` of an utterance.

    Args:
        stays: probabilities of the hypotheses as they are, [B, 2 R].
        size: R.

    Returns:
        The upper halves of the probabilities of the best R, the worst of them first, [B, R], and
        the lowest probabilities with these upper halves, [B].
    """
    best = np.partition(high_words(stays), size, axis=1)[:, size:]
    return best, from_high_words(best[:, 0])


def raise_lowest(lowest: np.ndarray, best: np.ndarray, item: np.ndarray, found: np.ndarray) -> None:
    """Raise the probability that hypotheses need, so that new ones have room.

    Args:
        lowest: of the best hypotheses as they are, [B]; changed in place.
        best: upper halves of their probabilities, [B, R].
        item: utterance of each new one, [C], rising.
        found: probability of each new one, [C].
    """
    high = high_words(found)
    counts = np.bincount(item, minlength=len(best))
    column = np.arange(len(item)) - (counts.cumsum() - counts)[item]
    few = counts <= FEW
    for group in (few & (counts > 0), ~few):
        rows = group.nonzero()[0]
        if not len(rows):
            continue
        width = int(counts[rows].max())
        own = group[item].nonzero()[0]
        both = np.zeros((len(rows), width + best.shape[1]), np.int32)
        both[:, width:] = best[rows]
        both[(group.cumsum() - 1)[item[own]], column[own]] = high[own]
        lowest[rows] = from_high_words(np.partition(both, width, axis=1)[:, width])


def chosen_of(
    stays: np.ndarray, item: np.ndarray, found: np.ndarray, lowest: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Masks [B, 2 R] and [C] of the best hypotheses; of equally good ones, the first.

    Args:
        stays: probabilities of the hypotheses as they are, [B, 2 R].
        item: utterance of each new one, [C].
        found: probability of each new one, [C].
        lowest: that is needed, [B]; too low by less than a millionth.
        size: number of hypotheses chosen of each utterance, at most.
    """
    chosen, kept = stays >= lowest[:, None], found >= lowest[item]
    counts = np.add.reduce(chosen, axis=1)
    if len(item):
        counts += np.bincount(item[kept], minlength=len(stays))
    for row in (counts > size).nonzero()[0]:
        own = (kept & (item == row)).nonzero()[0]
        values = np.concatenate([stays[row], found[own]])
        dropped = np.argsort(-values, kind="stable")[size:]
        chosen[row, dropped[dropped < stays.shape[1]]] = False
        kept[own[dropped[dropped >= stays.shape[1]] - stays.shape[1]]] = False
    return chosen, kept
