"""Convolutions over time of each channel by itself, on [B, T, D] as it lies in memory."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LONG = 15  # a kernel from which on its gradient goes a way of its own on a CPU


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None, dilation: int = 1) -> Tensor:
    """Convolve each channel of [B, T, D] over time, with zeros around: as many frames come out.

    As an image with the channels last, which is how x lies in memory: an order of magnitude faster
    on a CPU than the one-dimensional convolution of its transpose.

    A dilation of d is undone by taking every d-th frame as an item of its own: for the dilated
    convolution itself CPUs have no fast backward pass.

    Args:
        x: [B, T, D].
        weight: [D, 1, K], K odd.
        bias: [D].
        dilation: frames between two that are weighed together.
    """
    if dilation > 1:
        frames = x.shape[1]
        x = F.pad(x, (0, 0, 0, -frames % dilation)).unflatten(1, (-1, dilation))
        x = depthwise(x.transpose(1, 2).flatten(0, 1), weight, bias)
        return x.unflatten(0, (-1, dilation)).transpose(1, 2).flatten(1, 2)[:, :frames]
    plain = x.device.type == "cpu" and x.dtype == weight.dtype and weight.shape[2] >= LONG
    if plain and not torch.is_autocast_enabled("cpu"):
        y = CpuDepthwise.apply(x, weight)
        return y if bias is None else y + bias
    return as_row(x, weight, bias)


def as_row(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution of an image of height one."""
    image = x.transpose(1, 2).unsqueeze(2)  # [B, D, 1, T]
    padding = (0, weight.shape[2] // 2)
    image = F.conv2d(image, weight.unsqueeze(2), bias, padding=padding, groups=image.shape[1])
    return image.squeeze(2).transpose(1, 2)


class CpuDepthwise(torch.autograd.Function):
    """`depthwise` where each of its three convolutions goes the way that is quick on a CPU.

    Forward and the gradient of x as an image of height one; but the gradient of the weights, there
    ten times slower with long kernels, as an image of width one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        ctx.save_for_backward(x, weight)
        return as_row(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of x and of the weights."""
        (x, weight), grad = ctx.saved_tensors, grads[0].contiguous()
        grad_x = as_row(grad, weight.flip(2)) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        column, own = (t.transpose(1, 2).unsqueeze(3) for t in (grad, x))  # [B, D, T, 1]
        padding = [weight.shape[2] // 2, 0]
        _, grad_weight, _ = torch.ops.aten.convolution_backward(
            column,
            own,
            weight.unsqueeze(3),
            None,
            [1, 1],
            padding,
            [1, 1],
            False,
            [0, 0],
            own.shape[1],
            [False, True, False],
        )
        return grad_x, grad_weight.squeeze(3)


class DepthwiseConv(nn.Module):
    """`depthwise` with weights of its own.

    Args:
        width: channels.
        kernel: in frames.
        context: zeros before and after; together kernel - 1.
        bias: whether there is one.
    """

    def __init__(self, width: int, kernel: int, context: tuple[int, int], bias: bool):
        super().__init__()
        template = nn.Conv1d(width, width, kernel, groups=width, bias=bias)
        self.weight, self.bias, self.context = template.weight, template.bias, context

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        before, _ = self.context
        shift, frames = before - self.weight.shape[2] // 2, x.shape[1]
        if shift:  # looking back further than ahead, or the other way round
            x = F.pad(x, (0, 0, max(shift, 0), max(-shift, 0)))
        start = max(-shift, 0)
        return depthwise(x, self.weight, self.bias)[:, start : start + frames]
