"""Differences between the outputs of a graph and those of its exported file."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from src.interop.export.graphs import Graph

# Seconds: five lengths, none of them traced, and a padded batch of two.
DURATIONS: tuple[Sequence[float], ...] = ((0.61,), (1.27,), (2.9,), (4.43,), (7.05,), (3.13, 1.9))


@torch.no_grad()
def largest_difference(
    graph: Graph, run: Callable[..., Sequence[Tensor]], durations: Sequence[Sequence[float]]
) -> float:
    """The largest difference of an output value, relative to it where it is above 1.

    Infinite where a shape or a length differs.

    Args:
        graph: in evaluation mode.
        run: called with the inputs of the graph.
        durations: in seconds, of the items of each batch.
    """
    largest = 0.0
    for number, seconds in enumerate(durations):
        inputs = graph.example(seconds, seed=number)
        for wanted, given in zip(graph(*inputs), run(*inputs), strict=True):
            largest = max(largest, difference(given, wanted))
    return largest


def difference(given: Tensor, wanted: Tensor) -> float:
    """The largest difference between two tensors, relative to values above 1."""
    if given.shape != wanted.shape:
        return float("inf")
    if not wanted.is_floating_point():
        return 0.0 if torch.equal(given, wanted) else float("inf")
    apart = ((given - wanted).abs() / wanted.abs().clamp(min=1)).max().item()
    return apart if apart == apart else float("inf")
