"""Output levels of separated signals."""

import torch
from torch import Tensor

LEVELS = ("mixture", "peak", "model")
PEAK = 0.9
RIDGE = 1e-2  # of the least-squares gains, relative to the energy of each estimate


def apply_level(estimates: Tensor, audio: Tensor, level: str) -> Tensor:
    """Estimates at an output level; silent estimates stay silent.

    Args:
        estimates: [B, S, T], float32.
        audio: mixtures [B, T].
        level: `mixture` applies the gains with which the estimates add up to the mixture best,
            `peak` scales each estimate to a peak of 0.9, `model` keeps the estimates.

    Returns:
        [B, S, T].
    """
    if level == "model":
        return estimates
    if level == "peak":
        peak = estimates.abs().amax(-1, keepdim=True)
        return estimates * torch.where(peak > 0, PEAK / peak.clamp(min=1e-30), 0.0)
    return match_mixture(estimates, audio)


def match_mixture(estimates: Tensor, audio: Tensor) -> Tensor:
    """Estimates with the least-squares gains for their sum to equal the mixture.

    Args:
        estimates: [B, S, T], float32.
        audio: mixtures [B, T].

    Returns:
        [B, S, T].
    """
    return estimates * mixture_gains(estimates, audio)


def mixture_gains(estimates: Tensor, audio: Tensor) -> Tensor:
    """The least-squares gains for the sum of the estimates to equal the mixture.

    With estimates E and mixture x, the gains minimise |x - g E|^2 plus a small ridge penalty on
    their distance to one common gain, without which similar estimates could get any gains.
    Estimates with inverted sign are negated first, or they might cancel each other.

    Args:
        estimates: [B, S, T], float32.
        audio: mixtures [B, T].

    Returns:
        [B, S, 1].
    """
    correlation = estimates @ audio.unsqueeze(2)  # [B, S, 1]
    signs = torch.where(correlation < 0, -1.0, 1.0)
    estimates = estimates * signs
    correlation = correlation.abs().double()
    gram = (estimates @ estimates.transpose(1, 2)).double()  # [B, S, S]
    energy = gram.sum((1, 2), keepdim=True)
    common = correlation.sum(1, keepdim=True) / energy.clamp(min=1e-30)
    common = torch.where(energy > 0, common, 0.0)
    ridge = torch.diag_embed(RIDGE * gram.diagonal(dim1=1, dim2=2) + 1e-30)
    residual = correlation - gram @ common.expand_as(correlation)
    return signs * (common + torch.linalg.solve(gram + ridge, residual)).float()


def limit_peak(audio: Tensor) -> Tensor:
    """Signals [..., T] scaled by one common factor, so that no sample is beyond [-1, 1]."""
    return audio / audio.abs().max().clamp(min=1.0)
