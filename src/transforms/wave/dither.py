"""Dither: weak white noise, so that digital silence has a finite log spectrum."""

import math

import torch
from torch import Tensor, nn

from src.utils.lengths import padding_mask
from src.utils.options import check_number
from src.utils.random import uniform_table


class Dither(nn.Module):
    """Adds weak Gaussian white noise to every item, generated on the device of the batch.

    Args:
        amplitude: standard deviation of the noise.
        salt: string mixed into the seeds; another salt gives independent noise.

    Raises:
        ValueError: `amplitude` is not a number from 0 to 1.
    """

    def __init__(self, amplitude: float = 1e-5, salt: str = "Dither"):
        super().__init__()
        check_number("Dither, amplitude", amplitude, 0, 1, inclusive=True)
        self.amplitude, self.salt = amplitude, salt

    def forward(self, audio: Tensor, audio_length: Tensor, seed: Tensor, **_) -> dict[str, Tensor]:
        """Add noise within the length of each utterance.

        Args:
            audio: [B, T].
            audio_length: [B], in samples.
            seed: [B], int64, one seed per item.

        Returns:
            `audio` [B, T].
        """
        samples = audio.shape[1]
        table = uniform_table(seed, samples + samples % 2, self.salt).float().clamp(max=1 - 2**-24)
        # Box-Muller transform: two uniform numbers give two independent normal ones.
        radius, angle = table.unflatten(1, (-1, 2)).unbind(-1)
        radius = (-2 * torch.log1p(-radius)).sqrt()
        angle = 2 * math.pi * angle
        noise = torch.stack([radius * angle.cos(), radius * angle.sin()], -1).flatten(1)
        noise = noise[:, :samples] * ~padding_mask(audio_length, samples)
        return {"audio": audio + self.amplitude * noise}
