"""Convolution and batch normalisation over time: a sub-block of Jasper and QuartzNet."""

import torch.nn.functional as F
from torch import Tensor, nn

from src.models.layers.batch_norm import BatchNorm
from src.models.layers.deepspeech.masked_batch_norm import zero_padding
from src.models.ops.depthwise_conv import depthwise_conv1d

EPS = 1e-3  # of batch normalisation


class TimeConv(nn.Module):
    """Convolution over time of [B, T, C], with zeros around and without a bias.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: in frames, odd.
        stride: in frames.
        dilation: distance in frames between two frames under the kernel; 1 if stride is not.
        groups: groups of channels that are convolved separately.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ):
        super().__init__()
        conv = nn.Conv1d(in_channels, out_channels, kernel_size, groups=groups, bias=False)
        self.weight = nn.init.xavier_uniform_(conv.weight)
        self.stride, self.dilation, self.groups = stride, dilation, groups

    def output_length(self, frames):
        """Number of output frames for a number of input frames (int, array or tensor)."""
        return (frames - 1) // self.stride + 1

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T', C']."""
        channels, of_group, kernel_size = self.weight.shape
        if of_group == 1 and self.groups == channels:
            return depthwise_conv1d(x, self.weight, None, self.dilation, self.stride)
        if kernel_size == 1 and self.groups == 1:
            return F.linear(x[:, :: self.stride], self.weight.squeeze(2))
        padding = kernel_size // 2 * self.dilation
        x = x.transpose(1, 2)
        x = F.conv1d(x, self.weight, None, self.stride, padding, self.dilation, self.groups)
        return x.transpose(1, 2)


class SubBlock(nn.Module):
    """Convolution, batch normalisation and, with groups, a shuffle of the channels.

    Jasper (arXiv 1904.03288, section 2.1); separable: QuartzNet (arXiv 1910.10261, section 2.1),
    with groups of the 1x1 convolution and the shuffle of section 2.2. The statistics of a batch
    include its padded frames, as in NVIDIA's implementation.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: in frames, odd.
        stride: in frames.
        dilation: distance in frames between two frames under the kernel; 1 if stride is not.
        groups: groups of channels that are convolved separately, if separable by the 1x1
            convolution; after it the channels of all groups are interleaved.
        separable: a depthwise convolution and a 1x1 convolution, instead of a full convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        separable: bool = False,
    ):
        super().__init__()
        self.groups = groups
        over_time = (kernel_size, stride, dilation)
        self.depthwise = None
        if separable:
            self.depthwise = TimeConv(in_channels, in_channels, *over_time, groups=in_channels)
            over_time = (1, 1, 1)
        self.conv = TimeConv(in_channels, out_channels, *over_time, groups=groups)
        self.norm = BatchNorm(out_channels, eps=EPS)

    def output_length(self, frames):
        """Number of output frames for a number of input frames (int, array or tensor)."""
        return (self.depthwise or self.conv).output_length(frames)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Apply the sub-block.

        Args:
            x: [B, T, C], zero beyond the end of each utterance.
            padding_mask: of the output, [B, T', 1], True beyond the end; None: no padding.

        Returns:
            [B, T', C'].
        """
        if self.depthwise is not None:
            x = self.depthwise(x)
            if self.training and padding_mask is not None:  # it counts in the batch's statistics
                x = zero_padding(x, padding_mask)
        x = self.conv(x)
        x = self.norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return shuffle_groups(x, self.groups) if self.groups > 1 else x


def shuffle_groups(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of groups: the first of each group, then the second of each."""
    return x.unflatten(2, (groups, -1)).transpose(2, 3).flatten(2)
