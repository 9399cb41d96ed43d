"""The interface of a metric: exact sums over an evaluation, never means of batch means."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence


class Metric(ABC):
    """A score for each utterance and a value over all utterances of an evaluation.

    The terms of each sum are kept and added with `math.fsum`, which rounds once, so the value
    depends neither on the size or order of the batches nor on the number of processes.

    Attributes:
        values: suffixes of the keys of `compute()` where there are scores; "" is the main value.
        higher_is_better: whether a larger main value is better; None if the metric can't choose
            the best checkpoint.
        normalization: of the texts that are scored; empty for a metric without texts.
        columns: of the table of utterances, that show how a score came about.
        needs_targets: False for a metric that scores items without targets, too.
    """

    normalization: str = ""
    columns: tuple[str, ...] = ()
    values: tuple[str, ...] = ("",)
    higher_is_better: bool | None = None
    needs_targets: bool = True

    def __init__(self) -> None:
        self.terms: dict[str, list[float]] = defaultdict(list)

    def reset(self) -> None:
        """Forget all terms."""
        self.terms.clear()

    def add(self, name: str, value: float) -> None:
        """Add a term to the sum called `name`."""
        self.terms[name].append(float(value))

    def total(self, name: str) -> float:
        """The sum called `name`, rounded once; infinite or NaN if its terms are."""
        terms = self.terms[name]
        try:
            return math.fsum(terms)
        except (OverflowError, ValueError):  # beyond the range of a float; inf - inf
            return sum(terms)

    def merge(self, terms: dict[str, list[float]]) -> None:
        """Add the terms of another process."""
        for name, values in terms.items():
            self.terms[name].extend(values)

    @abstractmethod
    def update(self, **batch) -> list[float | None] | None:
        """Add a batch.

        Args:
            batch: each metric names the keys that it needs and ignores the others.

        Returns:
            The score of each utterance, None where it is undefined; or None if the metric has no
            scores of single utterances.
        """

    def fraction(self, score: float, row: Mapping[str, str]) -> tuple[float, float]:
        """Numerator and denominator of an utterance, from its row in the table of utterances.

        The value over some utterances is the ratio of their sums. By default it is the mean of
        the scores.

        Args:
            score: of the utterance, as in the table.
            row: the cells of all columns.

        Raises:
            ValueError: a cell is missing or damaged.
        """
        return score, 1.0

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The value over all batches since the last reset, by suffix: `values`, and maybe more.

        Empty where nothing was added, since no value, such as the 0 of 0 errors in 0 words, would
        be one to compare with others.
        """


class MeanScore(Metric):
    """Mean of the scores of all utterances that have one, and of those of each group of them."""

    def add_scores(
        self, scores: Sequence[float | None], groups: Sequence[object] | None = None
    ) -> list[float | None]:
        """Add the scores of a batch.

        Args:
            scores: None where a score is undefined.
            groups: of each utterance, the suffix of the mean over its group; None: no groups.

        Returns:
            The scores.
        """
        for i, score in enumerate(scores):
            if score is not None:
                self.add("", score)
                if groups is not None:
                    self.add(str(groups[i]), score)
        return list(scores)

    def compute(self) -> dict[str, float]:
        """The mean over all utterances and that over each group; empty without scores."""
        return {name: self.total(name) / len(self.terms[name]) for name in sorted(self.terms)}


def ratio(numerator: float, denominator: float) -> float:
    """numerator / denominator, where 0 / 0 is 0 and any other number over 0 is infinite."""
    if denominator == 0:
        return 0.0 if numerator == 0 else math.inf
    return numerator / denominator
