"""Batch normalisation that leaves padding out."""

import torch
from torch import Tensor, nn


class MaskedBatchNorm(nn.Module):
    """Sequence-wise batch normalisation: statistics over all valid frames of all items.

    The formula of Deep Speech 2 (arXiv 1512.02595, section 3.2) for its recurrent layers, used
    for the convolutions too. Running averages serve in evaluation, with torch's conventions
    (momentum 0.1, unbiased variance). With several processes each has its own statistics.

    Args:
        channels: features normalised each for itself.
        eps: added to the variance.
        momentum: of the running averages.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: [B, C, ...], zero wherever the mask is.
            mask: 1 at valid places and 0 elsewhere; broadcasts against x over B and time.

        Returns:
            Like x; zero wherever the mask is.
        """
        mean, variance = self.statistics(x, mask) if self.training else self.running()
        shape = [1, -1] + [1] * (x.ndim - 2)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (x * scale.reshape(shape) + shift.reshape(shape)) * mask

    def running(self) -> tuple[Tensor, Tensor]:
        """Mean and variance for evaluation."""
        return self.running_mean, self.running_var

    def statistics(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance over the valid places of this batch; updates the running ones."""
        axes = [axis for axis in range(x.ndim) if axis != 1]
        places = x.numel() // x.shape[1]
        # In float32: half precision can't count that far.
        count = mask.float().sum() * (places // mask.numel())
        # Both sums in one pass, of values shifted by the running mean: no cancellation, and
        # places of padding add a known amount that is taken off again.
        pivot = self.running_mean.clone()
        shape = [1, -1] + [1] * (x.ndim - 2)
        shifted = x - pivot.reshape(shape)
        padded = places - count
        mean = (shifted.sum(axes) + padded * pivot) / count
        square = (shifted.square().sum(axes) - padded * pivot.square()) / count
        variance = (square - mean.square()).clamp(min=0)
        mean = mean + pivot
        self.update(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        return mean, variance

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running averages."""
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)
