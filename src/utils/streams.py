"""Audio of any length in blocks."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from src.utils.audio_files import open_audio

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
