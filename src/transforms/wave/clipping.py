"""Clipping distortion, as of overdriven recordings."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform, column
from src.utils.random import uniform


class Clipping(RandomTransform):
    """Clips each utterance at a random fraction of its peak.

    Args:
        min_threshold: lower bound of the clipping level as a fraction of the peak.
        max_threshold: upper bound of the clipping level as a fraction of the peak.
        p: probability of transforming an item.

    Raises:
        ValueError: a bound is not in (0, 1], or the bounds are exchanged.
    """

    key = "audio"

    def __init__(self, min_threshold: float = 0.3, max_threshold: float = 1.0, p: float = 1.0):
        super().__init__(p)
        self.check_bounds(
            "min_threshold", min_threshold, "max_threshold", max_threshold, 0, 1, inclusive=False
        )
        self.min_threshold, self.max_threshold = min_threshold, max_threshold

    def draw(self, generator: torch.Generator, length: int) -> float:
        """Clipping level of one item as a fraction of its peak."""
        return uniform(generator, self.min_threshold, self.max_threshold)

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Clip each item; audio [b, T] and unchanged lengths [b]."""
        limit = value.abs().amax(dim=1, keepdim=True) * column(drawn, value)
        return torch.minimum(torch.maximum(value, -limit), limit), length
