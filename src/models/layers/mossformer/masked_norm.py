"""Normalisation over time that looks at an item's own frames only."""

import torch
from torch import Tensor, nn


def hide(x: Tensor, padding: Tensor | None) -> Tensor:
    """Zeros where `padding` [B, T, 1] is True; None: nothing is padding."""
    return x if padding is None else x.masked_fill(padding, 0.0)


class MaskedNorm(nn.Module):
    """Mean 0 and variance 1 over some axes of [B, T, D], then a factor and a bias for each channel.

    Args:
        width: channels.
        axes: (1, 2) for all numbers of an item, as GroupNorm with one group; (1,) for each channel
            over time, as InstanceNorm without running statistics.
        eps: added to the variance.
    """

    def __init__(self, width: int, axes: tuple[int, ...], eps: float):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.axes, self.eps = axes, eps

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """[B, T, D] to [B, T, D]; what is padding comes out as anything."""
        dtype, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))
        share = 1.0 if padding is None else x.shape[1] / (~padding).sum(1, keepdim=True)
        # Two plain means: on a CPU torch.var_mean takes five times as long over time.
        mean = hide(x, padding).mean(self.axes, keepdim=True) * share
        centred = hide(x - mean, padding)
        variance = centred.square().mean(self.axes, keepdim=True) * share
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return torch.addcmul(self.bias, centred, scale).to(dtype)
