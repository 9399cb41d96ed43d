"""Shortening time by strided, separable convolutions (FastConformer, arXiv 2305.05084)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.utils.lengths import valid

KERNEL, STRIDE = 3, 2


class Subsampling(nn.Module):
    """A spectrogram, as an image of one channel, to vectors at a fourth or an eighth of the rate.

    The first convolution is a full one, each further one depthwise and then pointwise. Frames
    beyond an utterance's end are zero before every strided convolution, as they would be if the
    utterance stood alone.

    Args:
        n_features: bins of the spectrogram.
        width: of the vectors.
        channels: of the convolutions.
        factor: 8 or 4, or another power of two.
        causal: pad the start of both axes only, two before and one after, so that a frame sees
            little of the future.

    Raises:
        ValueError: the factor is no power of two.
    """

    def __init__(
        self, n_features: int, width: int, channels: int, factor: int = 8, causal: bool = False
    ):
        super().__init__()
        if factor < 2 or factor & (factor - 1):
            raise ValueError(f"Subsampling: factor {factor} is no power of two.")
        self.factor, self.causal = factor, causal
        stages = factor.bit_length() - 1
        self.first = nn.Conv2d(1, channels, KERNEL, STRIDE)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(channels, channels, KERNEL, STRIDE, groups=channels)
            for _ in range(stages - 1)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(stages - 1))
        self.output = nn.Linear(channels * self.output_length(n_features), width)

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after, on both axes."""
        return (KERNEL - 1, STRIDE - 1) if self.causal else (1, 1)

    def next_length(self, length):
        """Frames (or bins) after one strided convolution (an int, array or tensor)."""
        return (length + sum(self.padding) - KERNEL) // STRIDE + 1

    def output_length(self, frames):
        """Frames that come out for so many going in (an int, array or tensor)."""
        for _ in range(self.factor.bit_length() - 1):
            frames = self.next_length(frames)
        return frames

    def forward(self, spectrogram: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [B, T', width] and their number [B].

        Args:
            spectrogram: [B, F, T].
            length: [B].
        """
        x = spectrogram.transpose(1, 2).unsqueeze(1)  # [B, 1, T, F]
        x = x * inside(x, length)
        # Channels last in memory, for which the depthwise convolutions are several times faster.
        x = x.to(memory_format=torch.channels_last)
        if torch.is_grad_enabled():
            x, length = self.convolve_frugally(x, length)
        else:
            x, length = self.convolve(x, length)
        return self.output(x.transpose(1, 2).flatten(2)), length

    def convolve(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """All stages: [B, 1, T, F] and [B] to [B, C, T', F'] and [B]."""
        x, length = self.stage(self.first, None, x, length)
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x, length = self.stage(depthwise, pointwise, x, length)
        return x, length

    def convolve_frugally(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """The same, computed again on the way back, which takes a twentieth more time.

        The images of the first stages would be a fifth of all memory. On a CPU, which gains nothing
        from a batch here, there is one item of them at a time.
        """
        size = 1 if x.device.type == "cpu" else len(x)
        parts = [
            checkpoint(self.convolve, *part, use_reentrant=False)
            for part in zip(x.split(size), length.split(size), strict=True)
        ]
        return tuple(torch.cat(both) for both in zip(*parts, strict=True))  # type: ignore

    def stage(
        self, strided: Any, pointwise: Any, x: Tensor, length: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Half of the frames and bins: [B, C, T, F] and [B] to the same."""
        before, after = self.padding
        if before != after:
            x, before = F.pad(x, (before, after, before, after)), 0
        x = F.conv2d(x, strided.weight, strided.bias, STRIDE, before, groups=strided.groups)
        length = self.next_length(length)
        if pointwise is None:
            return relu_inside(x, inside(x, length)), length
        own = inside(x, length).permute(0, 2, 3, 1)
        x = F.linear(x.permute(0, 2, 3, 1), pointwise.weight.flatten(1), pointwise.bias)
        return relu_inside(x, own).permute(0, 3, 1, 2), length


def relu_inside(x: Tensor, own: Tensor) -> Tensor:
    """ReLU where `own` is one and zero elsewhere, in place.

    Where the result is zero ReLU passes no gradient on, so the mask needs none of its own.
    """
    x.detach().mul_(own)
    return x.relu_()


def inside(x: Tensor, length: Tensor) -> Tensor:
    """One at an item's own frames of x [B, C, T, F], zero beyond: [B, 1, T, 1]."""
    return valid(length, x.shape[2]).to(x.dtype)[:, None, :, None]
