"""Sample rate conversion by a windowed sinc (Smith, Digital Audio Resampling)."""

import math
from collections.abc import Iterable, Iterator

import torch
import torchaudio
from torch import Tensor

from src.utils.stages import Sliding

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


def resampled(blocks: Iterable[Tensor], own_rate: int, sample_rate: int) -> Iterator[Tensor]:
    """Blocks [..., t] at another sample rate: concatenated, they equal `resample` of the whole.

    Every output sample is a weighted sum of the input around it, and the weights repeat after
    own_rate / gcd input samples. So blocks are cut there, and computed with as much of their
    neighbours as the filter reaches, zeros at both ends.

    Args:
        blocks: [..., t], of any sizes.
        own_rate: sample rate of the blocks, in Hz.
        sample_rate: of the blocks returned, in Hz.
    """
    if own_rate == sample_rate:
        yield from blocks
        return
    factor = math.gcd(own_rate, sample_rate)
    old, new = own_rate // factor, sample_rate // factor
    margin = -(-(reach(old, new) + old) // old) * old
    held, total = None, 0
    for block in blocks:
        total += block.shape[-1]
        if held is None:
            held = block.new_zeros(*block.shape[:-1], margin)
        held = torch.cat([held, block], -1)
        ready = (held.shape[-1] - 2 * margin) // old * old
        if ready > 0:
            yield convert(held[..., : ready + 2 * margin], margin, ready, old, new)
            held = held[..., ready:]
    if held is None:
        return
    rest = held.shape[-1] - margin
    held = torch.nn.functional.pad(held, (0, margin + -rest % old))
    done = (total - rest) // old * new
    last = convert(held, margin, rest + -rest % old, old, new)
    yield last[..., : math.ceil(new * total / old) - done]


def convert(audio: Tensor, margin: int, size: int, old: int, new: int) -> Tensor:
    """The samples of `audio` from `margin` on, `size` of them, at the new sample rate."""
    start = margin // old * new
    return resample(audio, old, new)[..., start : start + size // old * new]


def resampling_stage(own_rate: int, sample_rate: int) -> Sliding:
    """The stage that converts a sample rate: [B, T] to [B, T'].

    The weights of the filter repeat after own_rate / gcd samples, which are a group.
    """
    factor = math.gcd(own_rate, sample_rate)
    old, new = own_rate // factor, sample_rate // factor
    width = reach(old, new)

    def convert(audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        return resample(audio, old, new), (length * new + old - 1) // old

    return Sliding(convert, old, -(-width // old) + 1, width + old, new)
