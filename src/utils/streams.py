"""Audio of any length in blocks: reading, and converting the sample rate."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from src.utils.audio import open_audio
from src.utils.resampling import reach, resample

BLOCK = 10.0  # seconds


def read_blocks(path: Path, seconds: float = BLOCK) -> Iterator[Tensor]:
    """Mono blocks [t] of a recording at its own sample rate; channels are averaged.

    Args:
        path: of the recording.
        seconds: of each block but the last.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable as audio or has samples that aren't finite.
    """
    with open_audio(path) as file:
        frames = round(seconds * file.samplerate)
        while len(samples := file.read(frames, dtype="float32", always_2d=True)):
            block = torch.from_numpy(samples).mean(1)
            if not torch.isfinite(block).all():
                raise ValueError(f"{path}: has samples that are not finite numbers.")
            yield block


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
