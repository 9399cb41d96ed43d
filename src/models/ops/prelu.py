"""PReLU of channels-last frames [B, T, D] (arXiv 1502.01852).

The fast implementation is used in training on CPUs outside of torch.compile, where torch's backward
pass takes three times as long: it is not vectorised.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.ops.dispatch import use_cpu_path


def plain_prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU of [B, T, D] with one slope [1] or one for each channel [D], by torch's operation."""
    return F.prelu(x.transpose(1, 2), slope).transpose(1, 2)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU: x where it is positive, else slope * x.

    Args:
        x: [B, T, D].
        slope: of negative values, [1] or, one for each channel, [D].

    Returns:
        [B, T, D].
    """
    if torch.is_grad_enabled() and use_cpu_path(x):
        return PReLU.apply(x, slope.to(x.dtype))
    return plain_prelu(x, slope)


class PReLU(torch.autograd.Function):
    """PReLU whose backward pass consists of vectorised operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]; x and slope have the same type."""
        ctx.save_for_backward(x, slope)
        with torch.autocast("cpu", enabled=False):
            return plain_prelu(x, slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of x and slope."""
        x, slope = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(grads[0], x, 0)  # where x is positive
        negative = grads[0] - grad  # where it is not
        grad_slope = (negative * x).sum((0, 1) if len(slope) > 1 else (0, 1, 2))
        return grad.addcmul_(negative, slope), grad_slope.view_as(slope)
