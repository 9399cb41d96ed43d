"""Separation of audio of any length in memory that doesn't grow: windows that overlap."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from src.loss.pit import best_order, in_order

Separate = Callable[[Tensor], Tensor]  # a mixture [T] to streams [S, T]


def separate_in_chunks(
    blocks: Iterable[Tensor], separate: Separate, window: int, overlap: int
) -> Iterator[Tensor]:
    """Streams [S, t] of a mixture that comes in blocks [t]; joined, exactly as long.

    A model gives the speakers of each window in any order. They are put in that of the window
    before by what both say about the overlap, where one fades into the other.

    Args:
        blocks: the mixture, of any lengths.
        separate: the model.
        window: samples that it hears at once.
        overlap: samples of two neighbouring windows that are the same.

    Raises:
        ValueError: the overlap is not shorter than the window.
    """
    if not 0 < overlap < window:
        raise ValueError(f"an overlap of {overlap} samples in windows of {window} makes no sense.")
    tail: Tensor | None = None
    for mixture, last in windows(blocks, window, window - overlap):
        streams = separate(mixture)
        if tail is not None:
            streams = joined(tail, streams)
        size = streams.shape[1] if last else window - overlap
        yield streams[:, :size]
        tail = streams[:, size:]


def windows(blocks: Iterable[Tensor], window: int, hop: int) -> Iterator[tuple[Tensor, bool]]:
    """Windows [t] of a signal, and whether each is the last, which may be shorter."""
    held: Tensor | None = None
    for block in blocks:
        held = block if held is None else torch.cat([held, block])
        while len(held) > window:
            yield held[:window], False
            held = held[hop:]
    if held is not None and len(held):
        yield held, True


def joined(before: Tensor, streams: Tensor) -> Tensor:
    """The streams of a window [S, T] in the order of the one before, faded in from its end [S, O].

    Where the overlap says nothing, the order stays.
    """
    size = min(before.shape[1], streams.shape[1])
    before = before[:, :size]
    alike = streams[:, :size] @ before.T  # [S, S], new by old
    stay = 1e-6 * (alike.abs().max() + 1e-30) * torch.eye(len(streams), device=streams.device)
    streams = in_order(streams[None], best_order(-(alike + stay)[None]))[0]
    fade = torch.linspace(0, 1, size, device=streams.device)
    mixed = before * (1 - fade) + streams[:, :size] * fade
    return torch.cat([mixed, streams[:, size:]], 1)
