"""Depthwise convolution over time of channels-last frames [B, T, D].

`plain_depthwise_conv1d` transposes to [B, D, T] and calls `conv1d`. On CPUs, also where they are
traced, `depthwise_conv1d` takes the frames as a channels-last image, which is how they lie in
memory, and calls `conv2d`: this is an order of magnitude faster.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.ops.dispatch import prefers_channels_last


def plain_depthwise_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, dilation: int = 1, stride: int = 1
) -> Tensor:
    """Convolve each channel of [B, T, D] over time, with zeros around, by `conv1d`."""
    padding = weight.shape[2] // 2 * dilation
    y = F.conv1d(x.transpose(1, 2), weight, bias, stride, padding, dilation, groups=len(weight))
    return y.transpose(1, 2)


def depthwise_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, dilation: int = 1, stride: int = 1
) -> Tensor:
    """Convolve each channel of [B, T, D] over time, with zeros around.

    Time runs down the image, since the gradient of the weight is ten times as fast so as along its
    rows. The image is as wide as the dilation: each column then holds frames that are `dilation`
    apart, and the convolution down the columns needs no dilation itself. For a dilated one CPUs
    have no fast backward pass.

    Args:
        x: [B, T, D].
        weight: [D, 1, K], K odd.
        bias: [D].
        dilation: distance in frames between two frames under the kernel.
        stride: distance in frames between two positions of the kernel; 1 if dilation is not.

    Returns:
        [B, T', D] with T' = (T - 1) // stride + 1.
    """
    if not prefers_channels_last(x):
        return plain_depthwise_conv1d(x, weight, bias, dilation, stride)
    frames = (x.shape[1] - 1) // stride + 1
    rows = (x.shape[1] + dilation - 1) // dilation
    if dilation > 1:
        x = F.pad(x, (0, 0, 0, rows * dilation - x.shape[1]))
    image = x.contiguous().unflatten(1, (rows, dilation)).permute(0, 3, 1, 2)  # [B, D, T / d, d]
    padding = (weight.shape[2] // 2, 0)
    image = F.conv2d(image, weight.unsqueeze(3), bias, (stride, 1), padding, groups=len(weight))
    return image.permute(0, 2, 3, 1).flatten(1, 2).narrow(1, 0, frames)


def depthwise_conv1d_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and weight of `depthwise_conv1d(x, weight)`, for backward passes by hand.

    Args:
        grad: of the output, [B, T, D].
        x: [B, T, D].
        weight: [D, 1, K].

    Returns:
        [B, T, D] and [D, 1, K].
    """
    grad_image, image = (t.unsqueeze(2).permute(0, 3, 1, 2) for t in (grad, x))
    stride, dilation, padding = [1, 1], [1, 1], [weight.shape[2] // 2, 0]
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad_image,
        image,
        weight.unsqueeze(3),
        None,  # no bias
        stride,
        padding,
        dilation,
        False,  # not transposed
        [0, 0],
        len(weight),
        [True, True, False],
    )
    return grad_x.squeeze(3).transpose(1, 2), grad_weight.squeeze(3)


class DepthwiseConv(nn.Module):
    """Depthwise convolution over time of [B, T, D], with any split of the context.

    Args:
        channels: D.
        kernel_size: in frames.
        context: frames before and after the present one that the kernel covers; their sum is
            kernel_size - 1.
        bias: whether there is one.
    """

    def __init__(self, channels: int, kernel_size: int, context: tuple[int, int], bias: bool):
        super().__init__()
        conv = nn.Conv1d(channels, channels, kernel_size, groups=channels, bias=bias)
        self.weight, self.bias, self.context = conv.weight, conv.bias, context

    def forward(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        """[B, T, D] to [B, T, D].

        Args:
            x: [B, T, D].
            past: the frames before x, as many as the kernel covers, [B, context[0], D]; None:
                zeros.
        """
        before, _ = self.context
        if past is not None:
            return self.forward(torch.cat([past, x], 1))[:, before:]
        shift, frames = before - self.weight.shape[2] // 2, x.shape[1]
        if shift:  # the kernel's centre is not the present frame
            x = F.pad(x, (0, 0, max(shift, 0), max(-shift, 0)))
        start = max(-shift, 0)
        return depthwise_conv1d(x, self.weight, self.bias)[:, start : start + frames]
