"""Scale-invariant signal-to-distortion ratio (Le Roux et al., arXiv 1811.02508)."""

import torch
from torch import Tensor

from src.utils.lengths import valid

EPS = 1e-8
ALIKE = 60.0  # dB from which on a mixture is its source: nothing about it can improve


def centred(signal: Tensor, length: Tensor) -> Tensor:
    """Signals [B, ..., T] minus their mean over their own samples; zero behind them."""
    inside = valid(length, signal.shape[-1])
    inside = inside.reshape(len(length), *[1] * (signal.ndim - 2), -1)
    count = length.clamp(min=1).reshape(-1, *[1] * (signal.ndim - 1))
    signal = signal.to(torch.promote_types(signal.dtype, torch.float32))
    signal = signal.masked_fill(~inside, 0.0)
    mean = signal.sum(-1, keepdim=True) / count
    return (signal - mean).masked_fill(~inside, 0.0)


def si_sdr(estimate: Tensor, target: Tensor, length: Tensor) -> Tensor:
    """SI-SDR in dB over each item's own samples, zero mean.

    A constant of 1e-8 is added to each energy, as in the reference: the values of signals that are
    hardly louder than that (an RMS of 1e-5 over a second) come out too low. A silent target gives
    -80 dB and no gradient; see `pairwise_loss` for what training does.

    Args:
        estimate, target: [B, ..., T], broadcast against each other.
        length: [B], in samples.

    Returns:
        [B, ...].
    """
    estimate, target = centred(estimate, length), centred(target, length)
    energy = target.square().sum(-1, keepdim=True)
    projected = (estimate * target).sum(-1, keepdim=True) / (energy + EPS) * target
    error = (estimate - projected).square().sum(-1)
    return 10 * torch.log10(projected.square().sum(-1) / (error + EPS) + EPS)
