"""Sample rate conversion by a windowed sinc (Smith, Digital Audio Resampling)."""

import math

import torch
import torchaudio
from torch import Tensor

REACH = 6  # zero crossings of the filter to either side: torchaudio's default
ROLLOFF = 0.99
TABLE = 1 << 20  # most weights in a table
PIECE = 1 << 15  # samples computed at a time


def resample(audio: Tensor, own_rate: int, sample_rate: int) -> Tensor:
    """Audio at another sample rate.

    By torchaudio, which makes a table of the weights until they repeat. For sample rates with a
    small common divisor (22,257 and 8,000 Hz) that would fill gigabytes, so there the same
    weights are computed sample by sample.

    Args:
        audio: [..., T].
        own_rate: of the audio, in Hz.
        sample_rate: of the audio returned, in Hz.

    Returns:
        [..., ceil(T * sample_rate / own_rate)].
    """
    factor = math.gcd(own_rate, sample_rate)
    old, new = own_rate // factor, sample_rate // factor
    if old * new <= TABLE:
        return torchaudio.functional.resample(audio, old, new)
    size = -(-audio.shape[-1] * new // old)
    width = reach(old, new)
    audio = torch.nn.functional.pad(audio, (width, width + 1))
    pieces = (
        interpolate(audio, torch.arange(start, min(start + PIECE, size)), old, new)
        for start in range(0, size, PIECE)
    )
    return torch.cat([audio[..., :0], *pieces], -1)


def reach(old: int, new: int) -> int:
    """Old samples to either side that a new sample depends on."""
    return math.ceil(REACH * old / (min(old, new) * ROLLOFF))


def interpolate(audio: Tensor, wanted: Tensor, old: int, new: int) -> Tensor:
    """Some of the samples at the new sample rate.

    Args:
        audio: [..., T], with `reach` zeros before and one more behind.
        wanted: indices of the new samples, [N].
        old, new: sample rates without a common divisor.

    Returns:
        [..., N].
    """
    width, cutoff = reach(old, new), min(old, new) * ROLLOFF / old
    before = wanted * old // new
    offsets = torch.arange(-width, width + 2)
    fraction = (wanted * old % new).double() / new  # of the way to the next old sample
    times = ((offsets - fraction[:, None]) * cutoff).clamp(-REACH, REACH)  # in zero crossings
    weights = torch.sinc(times) * torch.cos(times * torch.pi / REACH / 2).square() * cutoff
    nearby = audio[..., (before[:, None] + offsets + width).to(audio.device)]
    return (nearby * weights.to(audio)).sum(-1)
