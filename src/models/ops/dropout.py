"""Dropout (Srivastava et al., 2014): `dropout` is fast on a CPU, `plain_dropout` is PyTorch's.

`torch.nn.functional.dropout` draws 64 random bits for each element on a CPU and saves a mask of
four bytes an element. The implementation here decides on four elements with each draw of 64 bits
and saves one byte an element for backward: twice as fast, which is a tenth of a training step. It
is used on CPUs outside of torch.compile. Its masks come from the same random generator as
PyTorch's, but differ from PyTorch's.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.ops.dispatch import use_cpu_path

LEVELS = 1 << 16  # of a 16-bit random number; probabilities are rounded to multiples of 1 / LEVELS


def plain_dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """In training, zero each element with the given probability and scale the others up."""
    return F.dropout(x, probability, training)


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """In training, zero each element with the given probability and scale the others up.

    Args:
        x: any shape.
        probability: of an element to be zeroed, from 0 to 1.
        training: False returns `x` itself.
    """
    threshold = dropout_threshold(probability, training)
    if not threshold:
        return x
    if threshold >= LEVELS or not use_cpu_path(x):
        return plain_dropout(x, probability, training)
    return CpuDropout.apply(x, threshold)


class CpuDropout(torch.autograd.Function):
    """Dropout with 16 random bits and one saved byte an element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int) -> Tensor:
        """Zero each element of `x` with probability `threshold / LEVELS`, scale up the others."""
        keep = draw_keep_mask(x, threshold)
        ctx.save_for_backward(keep)
        ctx.scale = keep_scale(threshold)
        return apply_keep_mask_(x * ctx.scale, keep)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Gradient of `x`."""
        (keep,) = ctx.saved_tensors
        return apply_keep_mask_(grads[0] * ctx.scale, keep), None


def dropout_threshold(probability: float, training: bool) -> int:
    """The dropout probability in units of 1 / LEVELS; 0 if not training."""
    return round(probability * LEVELS) if training else 0


def draw_keep_mask(x: Tensor, threshold: int) -> Tensor | None:
    """Draw which elements of `x` dropout keeps, with PyTorch's global CPU generator.

    Args:
        x: any shape, on the CPU.
        threshold: from `dropout_threshold`.

    Returns:
        int8 of the shape of `x`: 1 for elements to keep, 0 for those to zero; None if `threshold`
        is 0, since all are kept then.
    """
    if not threshold:
        return None
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    levels = draws.view(torch.int16)[: x.numel()].view(x.shape)
    return (levels >= threshold - LEVELS // 2).view(torch.int8)


def apply_keep_mask_(x: Tensor, keep: Tensor | None) -> Tensor:
    """Multiply `x` by a mask from `draw_keep_mask`, in place."""
    return x if keep is None else x.mul_(keep)


def keep_scale(threshold: int) -> float:
    """1 / (1 - probability): the factor by which dropout scales the elements that it keeps."""
    return LEVELS / (LEVELS - threshold)
