"""Inference over long signals in chunks of time, so that intermediate results stay in cache.

Where no gradients are needed, a chain of operations on a chunk of `CHUNK_SIZE` frames reads its
inputs from the CPU's cache, and the memory of one chunk is used again for the next; fresh memory
comes from the system page by page, which can take longer than to fill it. Used on CPUs outside of
torch.compile. The plain way is to call the function on the whole signal.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from src.models.ops.dispatch import use_cpu_path

CHUNK_SIZE = 512  # frames


def chunked_over_time(
    function: Callable[[Tensor, Tensor | None], Tensor],
    x: Tensor,
    padding_mask: Tensor | None,
    context: int,
) -> Tensor:
    """Compute `function(x, padding_mask)`, chunk by chunk where no gradients are needed.

    Args:
        function: from [B, T, D] and [B, T, 1] (or None) to [B, T, D'], for any T.
        x: [B, T, D].
        padding_mask: bool, [B, T, 1], True beyond the end; or None.
        context: frames to either side on which a frame of the output depends.

    Returns:
        [B, T, D'].
    """
    frames = x.shape[1]
    if not use_cpu_path(x) or torch.is_grad_enabled() or frames <= CHUNK_SIZE:
        return function(x, padding_mask)
    y = torch.empty(0)
    for start in range(0, frames, CHUNK_SIZE):
        first, last = max(start - context, 0), min(start + CHUNK_SIZE + context, frames)
        mask = None if padding_mask is None else padding_mask[:, first:last]
        chunk = function(x[:, first:last], mask)[:, start - first :][:, :CHUNK_SIZE]
        if not start:
            y = chunk.new_empty(len(x), frames, chunk.shape[2])
        y[:, start : start + CHUNK_SIZE] = chunk
    return y
