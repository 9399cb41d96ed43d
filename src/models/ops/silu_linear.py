"""The second half of a feed-forward module, which keeps little for the way back."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.ops.dropout import STEPS, draw_kept, drop, dropout, scale_of
from src.models.ops.eager import eager_on_cpu


def silu_linear(x: Tensor, linear: nn.Linear, probability: float, training: bool) -> Tensor:
    """SiLU, dropout and a linear map of [..., hidden]."""
    dropped = round(probability * STEPS) if training else 0
    if eager_on_cpu(x) and x.dtype == linear.weight.dtype and dropped < STEPS:
        return SiluLinear.apply(x, linear.weight, linear.bias, dropped)
    return linear(dropout(F.silu(x), probability, training))


class SiluLinear(torch.autograd.Function):
    """SiLU, dropout and a linear map, of which only the input and one byte an element is kept.

    What goes into the linear map is computed again on the way back: the wide vectors of the
    feed-forward modules are most of what a step keeps.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dropped: int) -> Tensor:
        """[..., hidden] to [..., width]."""
        keep = draw_kept(x, dropped)
        ctx.save_for_backward(x, weight, keep)
        ctx.scale, ctx.has_bias = scale_of(dropped), bias is not None
        # Rather the weights are scaled up than the hidden vectors, which are more.
        return F.linear(drop(F.silu(x), keep), weight * ctx.scale, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """Gradients of x, weight and bias."""
        x, weight, keep = ctx.saved_tensors
        grad = grads[0].flatten(0, -2)
        grad_bias = grad.sum(0) if ctx.has_bias else None
        grad = grad * ctx.scale
        grad_weight = grad.T @ drop(F.silu(x), keep).flatten(0, -2)
        grad_x = drop((grad @ weight).view_as(x), keep)
        torch.ops.aten.silu_backward.grad_input(grad_x, x, grad_input=grad_x)
        return grad_x, grad_weight, grad_bias, None
