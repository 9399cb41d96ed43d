"""Two-dimensional convolution over frequency and time for padded batches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.models.layers.deepspeech.masked_batch_norm import MaskedBatchNorm, zero_padding
from src.utils.lengths import padding_mask
from src.utils.options import check_sizes

CLIP = 20.0  # upper bound of the clipped ReLU


class MaskedConv(nn.Module):
    """Convolution, batch normalisation and clipped ReLU, min(max(x, 0), 20).

    A layer of section 3.3 of Deep Speech 2 (arXiv 1512.02595). Padding is zero at the input and
    output, so that the result does not depend on the amount of padding.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: (frequency, time), both odd.
        stride: (frequency, time).

    Raises:
        ValueError: a size is not a whole number from 1, or the kernel size is even.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
    ):
        super().__init__()
        check_sizes("DeepSpeech2.convolutions", out_channels=out_channels)
        for name, sizes in (("kernel_size", kernel_size), ("stride", stride)):
            if len(sizes) != 2:
                raise ValueError(
                    f"DeepSpeech2.convolutions.{name}: {tuple(sizes)}; (frequency, time)."
                )
            check_sizes(
                "DeepSpeech2.convolutions", **{f"{name}[{axis}]": sizes[axis] for axis in (0, 1)}
            )
        if not all(size % 2 for size in kernel_size):
            raise ValueError(
                f"DeepSpeech2.convolutions.kernel_size: {tuple(kernel_size)}; odd sizes."
            )
        kernel, self.stride = (kernel_size[0], kernel_size[1]), (stride[0], stride[1])
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, self.stride, padding)
        self.norm = MaskedBatchNorm(out_channels)

    def output_size(self, size, axis: int):
        """Output size for an input size (int, array or tensor); axis 0 frequency, 1 time."""
        return (size - 1) // self.stride[axis] + 1

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the layer.

        Args:
            x: [B, in_channels, F, T], zero beyond the end of each utterance.
            length: [B], frames of each utterance without padding.

        Returns:
            [B, out_channels, F', T'], zero beyond the end of each utterance, and lengths [B].
        """
        length = self.output_size(length, axis=1)
        y = self.conv(x)
        padded = padding_mask(length, y.shape[-1])[:, None, None]
        y = self.norm(zero_padding(y, padded), padded)
        return zero_padding(torch.clamp(y, 0.0, CLIP), padded), length
