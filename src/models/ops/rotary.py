"""Rotation of neighbouring channels as pairs, for rotary position embedding (arXiv 2104.09864).

`plain_rotate_pairs` leaves the gradient to autograd, which fills zeros and copies for each slice.
`rotate_pairs` copies once and rotates in place; its gradient is the rotation back. It is used
outside of torch.compile and exports.
"""

from typing import Any

import torch
from torch import Tensor

from src.models.ops.dispatch import is_traced


def plain_rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first channels of [..., T, K], out of place."""
    rotated = 2 * cos.shape[-1]
    a, b = x[..., :rotated].unflatten(-1, (-1, 2)).unbind(-1)
    pairs = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)
    return torch.cat([pairs, x[..., rotated:]], dim=-1)


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first 2 F channels as pairs of neighbours; the others stay as they are.

    Args:
        x: [..., T, K].
        cos, sin: of the angles of each frame, [T, F], without gradients.

    Returns:
        [..., T, K].
    """
    if is_traced():
        return plain_rotate_pairs(x, cos, sin)
    return RotatePairs.apply(x, cos, sin)


def rotate_pairs_(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate as `rotate_pairs`, in place."""
    a, b = x[..., : 2 * cos.shape[-1]].unflatten(-1, (-1, 2)).unbind(-1)
    rotated = (a * cos).addcmul_(b, sin, value=-1)
    b.mul_(cos).addcmul_(a, sin)
    a.copy_(rotated)
    return x


class RotatePairs(torch.autograd.Function):
    """Rotation whose gradient is the rotation by the opposite angles."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[..., T, K] to [..., T, K]."""
        ctx.save_for_backward(cos, sin)
        return rotate_pairs_(x.clone(memory_format=torch.contiguous_format), cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of `x`."""
        cos, sin = ctx.saved_tensors
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        return rotate_pairs_(grad, cos, -sin), None, None
