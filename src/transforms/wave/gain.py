"""Another level."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform, column
from src.utils.random import uniform


class Gain(RandomTransform):
    """Multiplies each utterance by a drawn gain.

    Args:
        low, high: bounds in dB.
        probability: of changing an item.
    """

    key = "audio"

    def __init__(self, low: float = -10.0, high: float = 10.0, probability: float = 1.0):
        super().__init__(probability)
        self.low, self.high = low, high

    def draw(self, generator: torch.Generator, length: int) -> float:
        """The gain in dB."""
        return uniform(generator, self.low, self.high)

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Multiply."""
        return value * 10 ** (column(drawn, value) / 20), length
