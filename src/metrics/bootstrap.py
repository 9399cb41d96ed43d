"""Confidence intervals of metrics and of their differences, by a paired bootstrap.

Bisani and Ney, "Bootstrap Estimates for Confidence Intervals in ASR Performance Evaluation"
(ICASSP 2004): utterances are drawn with replacement, and the metric of each draw is the ratio of
its sums, e.g. of errors and reference words. All runs are evaluated on the same draws, so that
the utterances' difficulty cancels in the differences. Utterances of one speaker are no independent
samples; where speakers are known, whole speakers are drawn instead.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from src.utils.options import check_whole

CONFIDENCE = 0.95
AT_ONCE = 1 << 22  # numbers drawn at a time


@dataclass(frozen=True)
class Interval:
    """A value with the limits of its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A difference with its confidence interval.

    Attributes:
        p: two-sided p-value: how probable a difference at least as large is without a true one.
    """

    p: float


@dataclass(frozen=True)
class Bootstrap:
    """The values of some runs over all utterances and over each draw of them.

    Limits and p-values are corrected for a small number of clusters, with which percentiles are
    too close to the value: z is replaced by t * sqrt(C / (C - 1)), the "expanded percentiles" of
    Hesterberg, "What Teachers Should Know about the Bootstrap" (arXiv 1411.5279). For a hundred
    clusters or more the correction is of little importance.

    Attributes:
        values: of each run, [R].
        drawn: of each draw and run, [D, R]; NaN where the draw's denominators are 0.
        clusters: C, the number of speakers or utterances that were drawn from.
    """

    values: np.ndarray
    drawn: np.ndarray
    clusters: int

    def interval(self, run: int) -> Interval:
        """The value of a run."""
        return Interval(float(self.values[run]), *self.limits(self.drawn[:, run]))

    def difference(self, first: int, second: int) -> Difference:
        """The value of the second run minus that of the first."""
        drawn = self.drawn[:, second] - self.drawn[:, first]
        value = float(self.values[second] - self.values[first])
        return Difference(value, *self.limits(drawn), self.p_value(drawn))

    def limits(self, drawn: np.ndarray) -> tuple[float, float]:
        """Limits of the confidence interval from the values of the draws, [D]."""
        t = stdtrit(self.clusters - 1, (1 - CONFIDENCE) / 2)
        tail = ndtr(t * sqrt(self.clusters / (self.clusters - 1)))
        low, high = np.nanquantile(drawn, [tail, 1 - tail])
        return float(low), float(high)

    def p_value(self, drawn: np.ndarray) -> float:
        """The p-value at which the confidence interval would have 0 as a limit; 1 at most."""
        drawn = drawn[~np.isnan(drawn)]
        fewest = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
        tail = min(0.5, (fewest + 1) / (len(drawn) + 1))
        t = ndtri(tail) * sqrt((self.clusters - 1) / self.clusters)
        return float(2 * stdtr(self.clusters - 1, t))


def paired_bootstrap(
    numerators: np.ndarray,
    denominators: np.ndarray,
    speakers: Sequence[Hashable] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> Bootstrap:
    """Evaluate runs on draws of the same utterances.

    Args:
        numerators, denominators: [R, N], of each run and utterance; a run's value is the ratio of
            their sums.
        speakers: of each utterance, [N]; None, or only one: utterances are drawn.
        draws: D.
        seed: of the draws.

    Raises:
        ValueError: there are less than two utterances, `draws` is no whole number from 100 on, or
            a run's denominators are all 0.
    """
    check_whole("draws", draws, low=100)
    check_whole("seed", seed, low=0)
    numbers = np.stack([numerators, denominators]).astype(np.float64)  # [2, R, N]
    if numbers.shape[-1] < 2:
        raise ValueError(f"bootstrap: {numbers.shape[-1]} utterances; at least 2 are needed.")
    if not numbers[1].sum(1).all():
        raise ValueError("bootstrap: all references are empty; there is nothing to compare.")
    sums = numbers if speakers is None else sums_of_clusters(numbers, speakers)
    if sums.shape[-1] < 2:
        sums = numbers
    totals = np.concatenate([draw_sums(sums, size, rng) for size, rng in parts(sums, draws, seed)])
    return Bootstrap(divided(sums.sum(-1)), divided(totals.swapaxes(0, 1)), sums.shape[-1])


def sums_of_clusters(numbers: np.ndarray, clusters: Sequence[Hashable]) -> np.ndarray:
    """Sums [..., C] of numbers [..., N] over the members of each of C clusters."""
    ids = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(ids), *numbers.shape[:-1]))
    np.add.at(sums, [ids[name] for name in clusters], np.moveaxis(numbers, -1, 0))
    return np.moveaxis(sums, 0, -1)


def parts(sums: np.ndarray, draws: int, seed: int) -> list[tuple[int, np.random.Generator]]:
    """Sizes of parts of the draws that fit into memory, with their random generators."""
    size = max(1, AT_ONCE // sums.shape[-1])
    starts = range(0, draws, size)
    return [(min(size, draws - i), np.random.default_rng([seed, i])) for i in starts]


def draw_sums(sums: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Sums [size, 2, R] of C clusters that are drawn with replacement from sums [2, R, C]."""
    count = sums.shape[-1]
    drawn = rng.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
    times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
    return np.einsum("dc,krc->dkr", times.astype(np.float64), sums, optimize=True)


def divided(sums: np.ndarray) -> np.ndarray:
    """Numerators over denominators, [2, ...] -> [...]; NaN where a denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[1] == 0, np.nan, sums[0] / sums[1])
