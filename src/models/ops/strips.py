"""Long signals a strip at a time: on a CPU what lies between two steps then stays in its cache.

Fresh memory is the other half: a system gives it page by page, which can take longer than filling
it, and small tensors get the pages of those that went before.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from src.models.ops.eager import eager_on_cpu

STRIP = 512  # frames


def in_strips(
    function: Callable[[Tensor, Tensor | None], Tensor],
    x: Tensor,
    padding: Tensor | None,
    reach: int,
) -> Tensor:
    """What `function(x, padding)` returns, where a frame depends on those near it only.

    As a whole where gradients are wanted.

    Args:
        function: [B, T, D] and [B, T, 1] to [B, T, D'].
        x: [B, T, D].
        padding: [B, T, 1] or None.
        reach: frames to either side on which a frame depends.
    """
    frames = x.shape[1]
    if frames <= STRIP or torch.is_grad_enabled() or not eager_on_cpu(x):
        return function(x, padding)
    found = torch.empty(0)
    for start in range(0, frames, STRIP):
        first, last = max(start - reach, 0), min(start + STRIP + reach, frames)
        near = None if padding is None else padding[:, first:last]
        own = function(x[:, first:last], near)[:, start - first :][:, :STRIP]
        if not start:
            found = own.new_empty(len(x), frames, own.shape[2])
        found[:, start : start + STRIP] = own
    return found
