"""Differences between the outputs of a graph and those of its exported file."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from src.interop.export.graphs import Graph
from src.interop.export.sessions import OnnxStreamingModule
from src.interop.export.streaming_graph import StreamingGraph

# Seconds: five lengths, none of them traced, and a padded batch of two.
DURATIONS: tuple[Sequence[float], ...] = ((0.61,), (1.27,), (2.9,), (4.43,), (7.05,), (3.13, 1.9))


@torch.no_grad()
def largest_difference(
    graph: Graph, program: Callable[..., Sequence[Tensor]], durations: Sequence[Sequence[float]]
) -> float:
    """The largest difference of an output value, relative to it where it is above 1.

    Infinite where a shape or a length differs.

    Args:
        graph: in evaluation mode.
        program: called with the inputs of the graph.
        durations: in seconds, of the items of each batch.
    """
    largest = 0.0
    for number, seconds in enumerate(durations):
        inputs = graph.example(seconds, seed=number)
        for wanted, given in zip(graph(*inputs), program(*inputs), strict=True):
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


@torch.no_grad()
def streaming_difference(graph: StreamingGraph, file: Callable[..., Sequence[Tensor]]) -> float:
    """The largest difference of log-probabilities between chunks and whole utterances.

    Infinite where a chunk has too few of them.

    Args:
        graph: in evaluation mode.
        file: called with its inputs, e.g. the file in which it was exported.
    """
    chunks = OnnxStreamingModule(file, graph.size, graph.caches(1), graph.flushes)
    long, largest = 5 * graph.size + graph.delay * graph.stride, 0.0
    for frames in (*range(1, 2 * graph.stride + 2), long, long + 3):
        x = torch.randn(1, graph.bins or 0, frames, generator=torch.Generator().manual_seed(frames))
        wanted = graph.whole(x)
        energies = x * graph.scale[1] + graph.scale[0]
        given = chunks(energies, torch.tensor([frames]))["log_probs"]
        enough = given.shape[1] >= -(-frames // graph.stride)
        apart = difference(given, wanted[:, : given.shape[1]]) if enough else float("inf")
        largest = max(largest, apart)
    return largest
