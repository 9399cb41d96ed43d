"""A two-dimensional convolution over frequency and time that keeps padding at zero."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.models.layers.deepspeech.masked_batch_norm import MaskedBatchNorm
from src.utils.lengths import valid

CLIP = 20.0  # of the clipped ReLU min(max(x, 0), 20)


class MaskedConv(nn.Module):
    """Convolution, batch normalisation, clipped ReLU (arXiv 1512.02595, section 3.3).

    Padding is zero before and after every step, as if there were none.

    Args:
        inputs, channels: of the convolution.
        kernel: (frequency, time), both odd.
        stride: (frequency, time).
    """

    def __init__(self, inputs: int, channels: int, kernel: Sequence[int], stride: Sequence[int]):
        super().__init__()
        if not all(size % 2 for size in kernel):
            raise ValueError(f"convolution kernel {tuple(kernel)}: both sizes must be odd.")
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.stride = (stride[0], stride[1])
        self.conv = nn.Conv2d(inputs, channels, (kernel[0], kernel[1]), self.stride, padding)
        self.norm = MaskedBatchNorm(channels)

    def output_size(self, size, axis: int):
        """Places left of `size` ones (int, array or tensor); axis 0 frequency, 1 time."""
        return (size - 1) // self.stride[axis] + 1

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve.

        Args:
            x: [B, inputs, F, T], zero beyond the lengths.
            length: [B].

        Returns:
            [B, channels, F', T'], zero beyond the new lengths, and these.
        """
        length = self.output_size(length, axis=1)
        y = self.conv(x)
        mask = valid(length, y.shape[-1])[:, None, None].to(y.dtype)
        y = self.norm(y * mask, mask)
        return torch.clamp(y, 0, CLIP) * mask, length
