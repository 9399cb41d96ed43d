"""Separation of audio of any length in overlapping windows, in constant memory."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from src.loss.pit import apply_permutation, best_permutation

Separate = Callable[[Tensor], Tensor]  # a mixture [T] to estimates [S, T]


def separate_in_windows(
    blocks: Iterable[Tensor], separate: Separate, window: int, overlap: int
) -> Iterator[Tensor]:
    """Estimates [S, t] of a mixture that is given block by block; joined, they are as long.

    A model may order the speakers of each window differently. Each window's estimates are permuted
    to correlate best with those of the previous window in the overlap, and cross-faded there.

    Args:
        blocks: consecutive parts [t] of the mixture, of any lengths.
        separate: separates one window.
        window: samples in a window.
        overlap: samples that neighbouring windows have in common.

    Raises:
        ValueError: the overlap is not between 0 and the window.
    """
    if not 0 < overlap < window:
        raise ValueError(
            f"an overlap of {overlap} samples in windows of {window}; it must be above 0 and "
            "below the window."
        )
    tail: Tensor | None = None
    for mixture, last in split_windows(blocks, window, window - overlap):
        estimates = separate(mixture)
        if tail is not None:
            estimates = cross_fade(tail, estimates)
        size = estimates.shape[1] if last else window - overlap
        yield estimates[:, :size]
        tail = estimates[:, size:]


def split_windows(blocks: Iterable[Tensor], window: int, hop: int) -> Iterator[tuple[Tensor, bool]]:
    """Windows [t] of a signal, each with whether it is the last one, which may be shorter.

    Args:
        blocks: consecutive parts [t] of the signal.
        window: samples in a window.
        hop: samples between the starts of two windows.
    """
    buffer: Tensor | None = None
    for block in blocks:
        buffer = block if buffer is None else torch.cat([buffer, block])
        while len(buffer) > window:
            yield buffer[:window], False
            buffer = buffer[hop:]
    if buffer is not None and len(buffer):
        yield buffer, True


def cross_fade(previous: Tensor, estimates: Tensor) -> Tensor:
    """A window's estimates in the order of the previous window, cross-faded in the overlap.

    Where the overlap doesn't distinguish the speakers, e.g. in silence, their order is kept.

    Args:
        previous: the end of the previous window's estimates [S, overlap].
        estimates: of the window [S, T].

    Returns:
        [S, T].
    """
    size = min(previous.shape[1], estimates.shape[1])
    previous = previous[:, :size]
    similarity = estimates[:, :size] @ previous.T  # [S, S], of estimate i for previous estimate j
    tie_break = 1e-6 * (similarity.abs().max() + 1e-30)
    similarity = similarity + tie_break * torch.eye(len(estimates), device=estimates.device)
    permutation = best_permutation(-similarity[None])
    estimates = apply_permutation(estimates[None], permutation)[0]
    fade_in = torch.linspace(0, 1, size, device=estimates.device)
    overlap = previous * (1 - fade_in) + estimates[:, :size] * fade_in
    return torch.cat([overlap, estimates[:, size:]], 1)
