"""Overdriven recordings."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform, column
from src.utils.random import uniform


class Clipping(RandomTransform):
    """Cuts each utterance off at a drawn share of its peak.

    Args:
        low, high: bounds of the share, in (0, 1].
        probability: of changing an item.
    """

    key = "audio"

    def __init__(self, low: float = 0.3, high: float = 1.0, probability: float = 1.0):
        super().__init__(probability)
        self.low, self.high = low, high

    def draw(self, generator: torch.Generator, length: int) -> float:
        """The share of the peak that is left."""
        return uniform(generator, self.low, self.high)

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Clip."""
        limit = value.abs().amax(dim=1, keepdim=True) * column(drawn, value)
        return torch.minimum(torch.maximum(value, -limit), limit), length
