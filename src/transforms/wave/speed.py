"""Faster or slower playback, which changes pitch and duration alike."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import resample

from src.transforms.base import RandomTransform
from src.utils.random import uniform

GRID = 100  # factors are rounded to hundredths, so that resampling has small filters


class Speed(RandomTransform):
    """Resamples each utterance by one of some factors.

    After "Audio Augmentation for Speech Recognition" (Ko et al., 2015).

    Args:
        factors: to draw from; 1.1 is faster, higher and shorter.
        probability: of changing an item.
    """

    key = "audio"

    def __init__(self, factors: Sequence[float] = (0.9, 1.0, 1.1), probability: float = 1.0):
        super().__init__(probability)
        if not factors or min(factors) <= 0:
            raise ValueError(f"Speed: factors {list(factors)} must be above 0.")
        self.factors = [round(factor * GRID) for factor in factors]

    def draw(self, generator: torch.Generator, length: int) -> int:
        """The factor in hundredths."""
        return self.factors[int(uniform(generator, 0, len(self.factors)))]

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Resample each item at its own length."""
        items = [
            play(row[:samples], factor)
            for row, samples, factor in zip(value, length.tolist(), drawn, strict=True)
        ]
        new = torch.tensor([len(item) for item in items], device=length.device)
        return pad_sequence(items, batch_first=True), new


def play(audio: Tensor, factor: int) -> Tensor:
    """Audio [T] at a speed of `factor` hundredths."""
    return resample(audio, factor, GRID) if factor != GRID else audio
