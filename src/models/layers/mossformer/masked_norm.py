"""Normalisation over time from the frames before an item's end only."""

import torch
from torch import Tensor, nn

from src.models.ops.masking import mask_padding


class MaskedNorm(nn.Module):
    """Mean 0 and variance 1 over some axes of [B, T, D], then a weight and a bias for each channel.

    Args:
        channels: D.
        axes: (1, 2) for statistics of each item, as in GroupNorm with one group; (1,) for those of
            each channel of an item, as in InstanceNorm.
        eps: added to the variance.
    """

    def __init__(self, channels: int, axes: tuple[int, ...], eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.axes, self.eps = axes, eps

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """[B, T, D] to [B, T, D], with arbitrary values in the padding.

        Args:
            x: [B, T, D].
            padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.
        """
        dtype, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))
        # Means are taken over all T frames, with zeros in the padding, and corrected by T / length.
        correction: Tensor | float = 1.0
        if padding_mask is not None:
            correction = x.shape[1] / (~padding_mask).sum(1, keepdim=True)
        # Two plain means: on a CPU torch.var_mean takes five times as long over time.
        mean = mask_padding(x, padding_mask).mean(self.axes, keepdim=True) * correction
        centred = mask_padding(x - mean, padding_mask)
        variance = centred.square().mean(self.axes, keepdim=True) * correction
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return torch.addcmul(self.bias, centred, scale).to(dtype)
