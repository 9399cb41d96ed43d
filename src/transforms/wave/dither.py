"""A trace of noise, so that digital silence has a spectrum."""

import math

import torch
from torch import Tensor, nn

from src.utils.lengths import valid
from src.utils.random import uniform_table


class Dither(nn.Module):
    """Adds white noise far below hearing, drawn for the whole batch on its device.

    Args:
        amplitude: standard deviation of the noise.
        salt: another one draws other noise from the same seeds.
    """

    def __init__(self, amplitude: float = 1e-5, salt: str = "Dither"):
        super().__init__()
        self.amplitude, self.salt = amplitude, salt

    def forward(self, audio: Tensor, audio_length: Tensor, seed: Tensor, **_) -> dict[str, Tensor]:
        """`audio` [B, T] with noise.

        Args:
            audio: [B, T].
            audio_length: [B].
            seed: [B].
        """
        samples = audio.shape[1]
        table = uniform_table(seed, samples + samples % 2, self.salt).float().clamp(max=1 - 2**-24)
        radius, angle = table.unflatten(1, (-1, 2)).unbind(-1)
        radius = (-2 * torch.log1p(-radius)).sqrt()  # two normal numbers of two (Box and Muller)
        angle = 2 * math.pi * angle
        noise = torch.stack([radius * angle.cos(), radius * angle.sin()], -1).flatten(1)
        noise = noise[:, :samples] * valid(audio_length, samples)
        return {"audio": audio + self.amplitude * noise}
