"""Scale-invariant signal-to-distortion ratio (Le Roux et al., arXiv 1811.02508)."""

import torch
from torch import Tensor

from src.utils.lengths import without_padding

EPS = 1e-8
IDENTICAL_DB = 60.0  # SI-SDR of a mixture from which on it counts as identical with its source


def zero_mean(signal: Tensor, length: Tensor) -> Tensor:
    """Signals minus their mean over their own length; padding is set to zero.

    Args:
        signal: [B, ..., T].
        length: [B], in samples.

    Returns:
        [B, ..., T], at least float32.
    """
    count = length.clamp(min=1).reshape(-1, *[1] * (signal.ndim - 1))
    mean = without_padding(signal, length).sum(-1, keepdim=True) / count
    return without_padding(signal - mean, length)


def si_sdr(estimate: Tensor, target: Tensor, length: Tensor) -> Tensor:
    """SI-SDR in dB of zero-mean signals, each over its own length.

        SI-SDR = 10 log10(|a s|^2 / |e - a s|^2), a = <e, s> / |s|^2

    A constant of 1e-8 is added to each energy, as in ClearerVoice, so the values of signals that
    are hardly louder than that (an RMS of 1e-5 over a second) are too low. A silent target gives
    -80 dB and no gradient.

    Args:
        estimate, target: [B, ..., T], broadcast against each other.
        length: [B], in samples.

    Returns:
        [B, ...].
    """
    estimate, target = zero_mean(estimate, length), zero_mean(target, length)
    energy = target.square().sum(-1, keepdim=True)
    projected = (estimate * target).sum(-1, keepdim=True) / (energy + EPS) * target
    error = (estimate - projected).square().sum(-1)
    return 10 * torch.log10(projected.square().sum(-1) / (error + EPS) + EPS)
