"""What every metric is: sums and counts over a whole split, never a mean of means."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict


class Metric(ABC):
    """Adds up terms batch by batch and gives its figures once for all of them.

    The terms are kept and added with `math.fsum`, which rounds once: the figure depends neither
    on the size or order of the batches nor on how many processes shared them.
    """

    figures: tuple[str, ...] = ("",)  # suffixes of what compute() gives; "" is the metric itself

    def __init__(self) -> None:
        self.terms: dict[str, list[float]] = defaultdict(list)

    def reset(self) -> None:
        """Forget all terms."""
        self.terms.clear()

    def add(self, name: str, value: float) -> None:
        """Note one term of the sum called `name`."""
        self.terms[name].append(float(value))

    def total(self, name: str) -> float:
        """The sum called `name`, rounded once."""
        return math.fsum(self.terms[name])

    def merge(self, terms: dict[str, list[float]]) -> None:
        """Add another process's terms."""
        for name, values in terms.items():
            self.terms[name].extend(values)

    @abstractmethod
    def update(self, **batch) -> None:
        """Add the terms of one batch."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The figures over all that was added: suffix -> value, with the keys of `figures`."""


def ratio(numerator: float, denominator: float) -> float:
    """A share, where nothing out of nothing is nothing."""
    if denominator == 0:
        return 0.0 if numerator == 0 else math.inf
    return numerator / denominator
