"""Converting the rate of audio by a windowed sinc (Smith, Digital Audio Resampling)."""

import math

import torch
import torchaudio
from torch import Tensor

REACH = 6  # zero crossings to either side that a resampled sample hears: torchaudio's default
ROLLOFF = 0.99
TABLE = 1 << 20  # weights that may be tabled
PIECE = 1 << 15  # samples computed at a time


def resample(audio: Tensor, own_rate: int, rate: int) -> Tensor:
    """Audio [..., T] at another rate: [..., ceil(T * rate / own_rate)].

    By torchaudio, which makes a table of the weights until they repeat. For rates with hardly a
    common divisor (22,257 and 8,000 Hz) that would fill gigabytes, so there the same weights are
    computed sample by sample.

    Args:
        audio: [..., T].
        own_rate, rate: in Hz.
    """
    factor = math.gcd(own_rate, rate)
    old, new = own_rate // factor, rate // factor
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
    """Samples at the old rate to either side that a new one hears."""
    return math.ceil(REACH * old / (min(old, new) * ROLLOFF))


def interpolate(audio: Tensor, wanted: Tensor, old: int, new: int) -> Tensor:
    """Samples at the new rate.

    Args:
        audio: [..., T], `reach` zeros before and one more behind.
        wanted: numbers of the new samples, [N].
        old, new: rates without a common divisor.

    Returns:
        [..., N].
    """
    width, cutoff = reach(old, new), min(old, new) * ROLLOFF / old
    before = wanted * old // new
    offsets = torch.arange(-width, width + 2)
    share = (wanted * old % new).double() / new  # of the way to the next old sample
    times = ((offsets - share[:, None]) * cutoff).clamp(-REACH, REACH)  # in zero crossings
    weights = torch.sinc(times) * torch.cos(times * torch.pi / REACH / 2).square() * cutoff
    heard = audio[..., (before[:, None] + offsets + width).to(audio.device)]
    return (heard * weights.to(audio)).sum(-1)
