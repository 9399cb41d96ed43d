"""SiLU, dropout and a linear map: the second half of a feed-forward module.

The fast implementation saves only its input and one byte an element for backward, and computes the
input of the linear map again there. The hidden vectors of feed-forward modules are most of what a
training step has to save. It is used on CPUs outside of torch.compile where input and weights have
the same type.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.ops.dispatch import use_cpu_path
from src.models.ops.dropout import (
    LEVELS,
    apply_keep_mask_,
    draw_keep_mask,
    dropout,
    dropout_threshold,
    keep_scale,
)


def plain_silu_linear(x: Tensor, linear: nn.Linear, probability: float, training: bool) -> Tensor:
    """SiLU, dropout and a linear map, by PyTorch's own operations."""
    return linear(dropout(F.silu(x), probability, training))


def silu_linear(x: Tensor, linear: nn.Linear, probability: float, training: bool) -> Tensor:
    """SiLU, dropout and a linear map.

    Args:
        x: [..., H].
        linear: from H to D channels.
        probability: of dropout, from 0 to 1.
        training: whether dropout is applied.

    Returns:
        [..., D].
    """
    threshold = dropout_threshold(probability, training)
    if use_cpu_path(x) and x.dtype == linear.weight.dtype and threshold < LEVELS:
        return SiluLinear.apply(x, linear.weight, linear.bias, threshold)
    return plain_silu_linear(x, linear, probability, training)


class SiluLinear(torch.autograd.Function):
    """SiLU, dropout and a linear map, with SiLU and dropout recomputed in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, threshold: int) -> Tensor:
        """[..., H] to [..., D]; dropout with probability `threshold / LEVELS`."""
        keep = draw_keep_mask(x, threshold)
        ctx.save_for_backward(x, weight, keep)
        ctx.scale, ctx.has_bias = keep_scale(threshold), bias is not None
        # Dropout's scale goes into the weight, which has fewer elements than the hidden vectors.
        return F.linear(apply_keep_mask_(F.silu(x), keep), weight * ctx.scale, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """Gradients of x, weight and bias."""
        x, weight, keep = ctx.saved_tensors
        grad = grads[0].flatten(0, -2)
        grad_bias = grad.sum(0) if ctx.has_bias else None
        grad = grad * ctx.scale
        grad_weight = grad.T @ apply_keep_mask_(F.silu(x), keep).flatten(0, -2)
        grad_x = apply_keep_mask_((grad @ weight).view_as(x), keep)
        torch.ops.aten.silu_backward.grad_input(grad_x, x, grad_input=grad_x)
        return grad_x, grad_weight, grad_bias, None
