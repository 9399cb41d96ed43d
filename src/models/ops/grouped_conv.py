"""Convolution over time of [B, T, n * D] with D groups of n channels and one output for each.

`plain_grouped_conv1d` calls `conv1d` with `groups=D`. On CPUs, also where they are traced,
`grouped_conv1d` convolves every channel by itself, see `src/models/ops/depthwise_conv.py`, and adds
up those of a group: an order of magnitude faster.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.ops.depthwise_conv import depthwise_conv1d
from src.models.ops.dispatch import prefers_channels_last


def plain_grouped_conv1d(x: Tensor, weight: Tensor, dilation: int = 1) -> Tensor:
    """Convolve groups of channels over time, with zeros around, by `conv1d`."""
    padding = weight.shape[2] // 2 * dilation
    y = F.conv1d(x.transpose(1, 2), weight, None, 1, padding, dilation, groups=len(weight))
    return y.transpose(1, 2)


def grouped_conv1d(x: Tensor, weight: Tensor, dilation: int = 1) -> Tensor:
    """Convolve groups of channels over time, with zeros around.

    Args:
        x: [B, T, n * D], the n channels of a group side by side.
        weight: [D, n, K], K odd.
        dilation: distance in frames between two frames under the kernel.

    Returns:
        [B, T, D].
    """
    if not prefers_channels_last(x):
        return plain_grouped_conv1d(x, weight, dilation)
    size = weight.shape[1]
    y = depthwise_conv1d(x, weight.flatten(0, 1).unsqueeze(1), dilation=dilation)
    # Strided views are added, since a sum over an axis of n elements is slow.
    return reduce(torch.add, (y[..., i::size] for i in range(size)))
