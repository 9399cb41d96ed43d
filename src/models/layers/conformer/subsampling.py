"""Convolutional subsampling: depthwise-separable (FastConformer, arXiv 2305.05084, section 2.1) or
full (Conformer, arXiv 2005.08100)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.models.ops.dispatch import prefers_channels_last
from src.utils.lengths import padding_mask
from src.utils.stages import Sliding, convolutions

KERNEL_SIZE, STRIDE = 3, 2


class Subsampling(nn.Module):
    """Vectors at 1/4 or 1/8 of the spectrogram's frame rate.

    The spectrogram is an image of one channel. Each stage halves time and frequency: the first is
    a full convolution, each further one a depthwise and a pointwise convolution, or with
    `separable=False` a full one, too. Frames beyond the end of an utterance are set to zero before
    every strided convolution, so that the result does not depend on the amount of padding.

    Args:
        feat_in: frequency bins of the spectrogram.
        d_model: size of the output vectors.
        conv_channels: channels of the convolutions.
        factor: subsampling factor, a power of two; 8 or 4 in published models.
        causal: pad both axes with two zeros before and one after, as NeMo's streaming models do.
        separable: depthwise-separable convolutions after the first.

    Raises:
        ValueError: the factor is not a power of two from 2.
    """

    def __init__(
        self,
        feat_in: int,
        d_model: int,
        conv_channels: int,
        factor: int = 8,
        causal: bool = False,
        separable: bool = True,
    ):
        super().__init__()
        if factor < 2 or factor & (factor - 1):
            raise ValueError(
                f"ConformerEncoder.subsampling_factor: {factor}; a power of two from 2."
            )
        self.factor, self.causal, self.separable = factor, causal, separable
        further = range(factor.bit_length() - 2)  # stages after the first
        self.conv = nn.Conv2d(1, conv_channels, KERNEL_SIZE, STRIDE)
        if separable:
            self.depthwise = nn.ModuleList(
                nn.Conv2d(conv_channels, conv_channels, KERNEL_SIZE, STRIDE, groups=conv_channels)
                for _ in further
            )
            self.pointwise = nn.ModuleList(
                nn.Conv2d(conv_channels, conv_channels, 1) for _ in further
            )
        else:
            self.full = nn.ModuleList(
                nn.Conv2d(conv_channels, conv_channels, KERNEL_SIZE, STRIDE) for _ in further
            )
        self.out = nn.Linear(conv_channels * self.output_length(feat_in), d_model)

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after, on both axes."""
        return (KERNEL_SIZE - 1, STRIDE - 1) if self.causal else (1, 1)

    def next_length(self, length):
        """Frames (or bins) after one strided convolution (int, array or tensor)."""
        return (length + sum(self.padding) - KERNEL_SIZE) // STRIDE + 1

    def output_length(self, frames):
        """Number of output frames for a number of input frames (int, array or tensor)."""
        for _ in range(self.factor.bit_length() - 1):
            frames = self.next_length(frames)
        return frames

    def streaming_stage(self) -> Sliding:
        """The subsampling of a stream: [B, F, T] to [B, D, T']."""
        before, _ = self.padding
        layers = [(KERNEL_SIZE, STRIDE, before)] * (self.factor.bit_length() - 1)

        def subsample(spectrogram: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
            x, length = self(spectrogram, length)
            return x.transpose(1, 2), length

        return Sliding(subsample, **convolutions(layers))

    def forward(self, spectrogram: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Subsample a batch.

        Args:
            spectrogram: [B, F, T].
            length: [B], frames of each utterance without padding.

        Returns:
            Vectors [B, T', D] and their number in each utterance [B].
        """
        x = spectrogram.transpose(1, 2).unsqueeze(1)  # [B, 1, T, F]
        x = x * frame_mask(x, length)
        if prefers_channels_last(x):
            x = x.to(memory_format=torch.channels_last)
        if torch.is_grad_enabled():
            x, length = self.checkpointed_stages(x, length)
        else:
            x, length = self.stages(x, length)
        return self.out(x.transpose(1, 2).flatten(2)), length

    def stages(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Apply all stages: [B, 1, T, F] and [B] to [B, C, T', F'] and [B]."""
        x, length = self.stage(self.conv, None, x, length)
        if self.separable:
            for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
                x, length = self.stage(depthwise, pointwise, x, length)
        else:
            for strided in self.full:
                x, length = self.stage(strided, None, x, length)
        return x, length

    def checkpointed_stages(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Apply all stages with activation checkpointing: [B, 1, T, F] to [B, C, T', F'].

        The activations of the first stages would be a fifth of the memory of a training step;
        recomputing them in the backward pass costs a twentieth of its time. On a CPU utterances are
        processed one by one, which is as fast and needs the memory of one.
        """
        size = 1 if x.device.type == "cpu" else len(x)
        parts = [
            checkpoint(self.stages, *part, use_reentrant=False)
            for part in zip(x.split(size), length.split(size), strict=True)
        ]
        return tuple(torch.cat(both) for both in zip(*parts, strict=True))  # type: ignore

    def stage(
        self, strided: Any, pointwise: Any, x: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Halve time and frequency: [B, C, T, F] and [B] to [B, C, T / 2, F / 2] and [B].

        Args:
            strided: convolution of stride 2.
            pointwise: convolution of kernel size 1 after it, or None.
            x: [B, C, T, F], zero beyond the end of each utterance.
            length: [B], frames of each utterance without padding.

        Returns:
            The new x, zero beyond the end of each utterance, and the new lengths.
        """
        before, after = self.padding
        if before != after:
            x, before = F.pad(x, (before, after, before, after)), 0
        x = F.conv2d(x, strided.weight, strided.bias, STRIDE, before, groups=strided.groups)
        length = self.next_length(length)
        mask = frame_mask(x, length)
        if pointwise is None:
            return masked_relu(x, mask), length
        if not prefers_channels_last(x):
            return masked_relu(F.conv2d(x, pointwise.weight, pointwise.bias), mask), length
        x = F.linear(x.permute(0, 2, 3, 1), pointwise.weight.flatten(1), pointwise.bias)
        return masked_relu(x, mask.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), length


def masked_relu(x: Tensor, mask: Tensor) -> Tensor:
    """ReLU of x times a mask of ones and zeros, in place.

    The product is hidden from autograd, which saves its memory: ReLU has no gradient where its
    result is zero, so neither have the masked elements.
    """
    kept = x.detach() if torch.is_grad_enabled() else x
    kept.mul_(mask)
    return x.relu_()


def frame_mask(x: Tensor, length: Tensor) -> Tensor:
    """Factor [B, 1, T, 1] for x [B, C, T, F]: one for frames before the end, zero for padding."""
    return (~padding_mask(length, x.shape[2])).to(x.dtype)[:, None, :, None]
