"""Normalisation, linear map, SiLU, residual depthwise convolution, dropout: MossFormer's ConvM.

`linear_silu_conv` adds the residual as one more weight in the middle of the kernel, and on CPUs
outside of torch.compile

- in training without padding, saves only its input, the input of SiLU and one byte an output for
  backward, and computes there again what lies between: half of the memory for little time;
- without gradients, goes through long signals in chunks, see `src/models/ops/chunked.py`.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.ops.chunked import chunked_over_time
from src.models.ops.depthwise_conv import (
    depthwise_conv1d,
    depthwise_conv1d_backward,
    plain_depthwise_conv1d,
)
from src.models.ops.dispatch import use_cpu_path
from src.models.ops.dropout import (
    LEVELS,
    apply_keep_mask_,
    draw_keep_mask,
    dropout,
    dropout_threshold,
    keep_scale,
)
from src.models.ops.masking import mask_padding

Normalize = Callable[[Tensor], Tensor]


def plain_linear_silu_conv(
    x: Tensor,
    normalize: Normalize,
    weight: Tensor,
    bias: Tensor,
    kernel: Tensor,
    padding_mask: Tensor | None,
    probability: float,
    training: bool,
) -> Tensor:
    """Normalise, map, SiLU, add a depthwise convolution and drop out, step by step."""
    x = F.silu(F.linear(normalize(x), weight, bias))
    x = mask_padding(x, padding_mask)
    return dropout(x + plain_depthwise_conv1d(x, kernel), probability, training)


def linear_silu_conv(
    x: Tensor,
    normalize: Normalize,
    weight: Tensor,
    bias: Tensor,
    kernel: Tensor,
    padding_mask: Tensor | None,
    probability: float,
    training: bool,
) -> Tensor:
    """Normalise, map, SiLU, add a depthwise convolution and drop out.

    Args:
        x: [B, T, D].
        normalize: normalises each frame, without parameters to train.
        weight, bias: of the linear map, [D', D] and [D'].
        kernel: of the convolution over time, [D', 1, K], K odd.
        padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.
        probability: of dropout, from 0 to 1.
        training: whether dropout is applied.

    Returns:
        [B, T, D'].
    """
    half = kernel.shape[2] // 2
    kernel = kernel + F.pad(kernel.new_ones(1), (half, half))  # with the residual
    threshold = dropout_threshold(probability, training)
    same_dtype = not torch.is_autocast_enabled("cpu") and x.dtype == weight.dtype
    lean = x.requires_grad and padding_mask is None and same_dtype and threshold < LEVELS
    if lean and use_cpu_path(x):
        return LinearSiluConv.apply(x, weight, bias, kernel, normalize, threshold)

    def function(x: Tensor, padding_mask: Tensor | None) -> Tensor:
        x = F.linear(normalize(x), weight, bias)
        x = F.silu(x, inplace=not x.requires_grad)
        return depthwise_conv1d(mask_padding(x, padding_mask), kernel)

    y = chunked_over_time(function, x, padding_mask, context=half)
    return dropout(y, probability, training)


class LinearSiluConv(torch.autograd.Function):
    """Normalisation, linear map, SiLU, convolution and dropout with few tensors saved."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        kernel: Tensor,
        normalize: Normalize,
        threshold: int,
    ) -> Tensor:
        """[B, T, D] to [B, T, D']; dropout with probability `threshold / LEVELS`."""
        kernel = kernel * keep_scale(threshold)  # fewer elements than the output
        pre_silu = F.linear(normalize(x), weight, bias)
        y = depthwise_conv1d(F.silu(pre_silu), kernel)
        keep = draw_keep_mask(y, threshold)
        ctx.save_for_backward(x, weight, kernel, pre_silu, keep)
        ctx.normalize, ctx.scale = normalize, keep_scale(threshold)
        return apply_keep_mask_(y, keep)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight, bias and kernel."""
        x, weight, kernel, pre_silu, keep = ctx.saved_tensors
        grad = grads[0] if keep is None else grads[0] * keep
        grad, grad_kernel = depthwise_conv1d_backward(grad, F.silu(pre_silu), kernel)
        torch.ops.aten.silu_backward.grad_input(grad, pre_silu, grad_input=grad)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            normalized = ctx.normalize(x)
        rows = grad.flatten(0, 1)
        grad_weight = rows.T @ normalized.detach().flatten(0, 1)
        (grad_x,) = torch.autograd.grad(normalized, x, grad @ weight)
        return grad_x, grad_weight, rows.sum(0), grad_kernel.mul_(ctx.scale), None, None
