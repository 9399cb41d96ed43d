"""Speed perturbation."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import resample

from src.transforms.base import RandomTransform
from src.utils.random import uniform

DENOMINATOR = 100  # factors are rounded to 1/100, so that the resampling filters stay small
LOWEST, HIGHEST = 0.1, 10.0  # bounds of a speed factor


class Speed(RandomTransform):
    """Resamples each utterance, which changes tempo, pitch and duration together.

    After "Audio Augmentation for Speech Recognition" (Ko et al., Interspeech 2015).

    Args:
        factors: speed factors to choose from; 1.1 is faster, higher and shorter.
        p: probability of transforming an item.

    Raises:
        ValueError: `factors` is not a list of numbers from 0.1 to 10, or is empty.
    """

    key = "audio"

    def __init__(self, factors: Sequence[float] = (0.9, 1.0, 1.1), p: float = 1.0):
        super().__init__(p)
        if not isinstance(factors, Sequence) or isinstance(factors, str) or not factors:
            raise ValueError(f"Speed, factors: {factors!r}; a list of numbers, not empty.")
        for i, factor in enumerate(factors):
            self.check_number(f"factors[{i}]", factor, LOWEST, HIGHEST)
        self.factors = [round(factor * DENOMINATOR) for factor in factors]

    def draw(self, generator: torch.Generator, length: int) -> int:
        """Speed factor of one item in hundredths."""
        return self.factors[int(uniform(generator, 0, len(self.factors)))]

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Resample each item [T] without its padding; audio [b, T'] and new lengths [b]."""
        items = [
            change_speed(audio[:samples], factor)
            for audio, samples, factor in zip(value, length.tolist(), drawn, strict=True)
        ]
        new_length = torch.tensor([len(item) for item in items], device=length.device)
        return pad_sequence(items, batch_first=True), new_length


def change_speed(audio: Tensor, factor: int) -> Tensor:
    """Audio [T] resampled to ceil(T * 100 / factor) samples; `factor` is in hundredths."""
    return resample(audio, factor, DENOMINATOR) if factor != DENOMINATOR else audio
