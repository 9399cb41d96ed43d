"""Audio of any length in blocks."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from src.utils.audio_files import audio_info, open_audio
from src.utils.shard_sample import AudioPath

BLOCK = 10.0  # seconds
AT_ONCE = 1000  # blocks whose power is measured at a time


def read_blocks(path: AudioPath, seconds: float = BLOCK) -> Iterator[Tensor]:
    """Mono blocks [t] of a recording at its own sample rate; channels are averaged.

    Args:
        path: of the recording.
        seconds: of each block but the last.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable as audio, has no samples, or some that aren't finite.
    """
    with open_audio(path) as file:
        if not file.frames:
            raise ValueError(f"{path}: a header without audio.")
        frames = round(seconds * file.samplerate)
        while len(samples := file.read(frames, dtype="float32", always_2d=True)):
            block = torch.from_numpy(samples).mean(1)
            if not torch.isfinite(block).all():
                raise ValueError(f"{path}: has samples that are not finite numbers.")
            yield block


def block_powers(path: AudioPath, seconds: float) -> tuple[np.ndarray, float]:
    """Mean square of a recording in consecutive blocks [N], and how many seconds a block has.

    Args:
        path: of the recording.
        seconds: of a block, which is rounded to whole samples; a last part of one is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable as audio or has samples that aren't finite.
    """
    rate = audio_info(path).sample_rate
    size = max(1, round(seconds * rate))
    powers = [torch.zeros(0)]
    for audio in read_blocks(path, AT_ONCE * size / rate):
        count = len(audio) // size
        powers.append(audio[: count * size].view(count, size).square().mean(1))
    return torch.cat(powers).numpy(), size / rate


def crossfaded(
    first: AudioPath, second: AudioPath, weights: np.ndarray, seconds: float, gain: float = 1.0
) -> Iterator[Tensor]:
    """Blocks [t] of `weights * gain * first + (1 - weights) * second`.

    Args:
        first, second: recordings of the same length and sample rate.
        weights: of the first one in consecutive blocks [N], between whose centres they change
            linearly.
        seconds: of a block, which is rounded to whole samples.
        gain: of the first one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: one isn't readable as audio or has samples that aren't finite.
    """
    rate = audio_info(first).sample_rate
    size, start = max(1, round(seconds * rate)), 0
    centres = (np.arange(len(weights)) + 0.5) * size
    blocks = (read_blocks(path, AT_ONCE * size / rate) for path in (first, second))
    for one, other in zip(*blocks, strict=True):
        samples = np.interp(np.arange(start, start + len(one)) + 0.5, centres, weights)
        weight = torch.from_numpy(samples.astype(np.float32))
        yield weight * gain * one + (1 - weight) * other
        start += len(one)
