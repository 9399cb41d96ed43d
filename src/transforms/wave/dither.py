"""A trace of noise, so that digital silence has a spectrum."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform


class Dither(RandomTransform):
    """Adds white noise far below hearing.

    Args:
        amplitude: standard deviation of the noise.
        probability: of changing an item.
    """

    key = "audio"

    def __init__(self, amplitude: float = 1e-5, probability: float = 1.0):
        super().__init__(probability)
        self.amplitude = amplitude

    def draw(self, generator: torch.Generator, length: int) -> Tensor:
        """Noise for an item."""
        return torch.randn(length, generator=generator)

    def change(self, value: Tensor, length: Tensor, drawn: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Add it."""
        noise = torch.nn.utils.rnn.pad_sequence(drawn, batch_first=True).to(value)
        return value + self.amplitude * torch.nn.functional.pad(
            noise, (0, value.shape[-1] - noise.shape[-1])
        ), length
