"""Random gain."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform, column
from src.utils.random import uniform


class Gain(RandomTransform):
    """Multiplies each utterance by a random gain.

    Args:
        min_gain_db: lower bound of the gain in dB.
        max_gain_db: upper bound of the gain in dB.
        p: probability of transforming an item.

    Raises:
        ValueError: a bound is not in [-100, 100] dB, or the bounds are exchanged.
    """

    key = "audio"

    def __init__(self, min_gain_db: float = -10.0, max_gain_db: float = 10.0, p: float = 1.0):
        super().__init__(p)
        self.check_bounds("min_gain_db", min_gain_db, "max_gain_db", max_gain_db, -100, 100)
        self.min_gain_db, self.max_gain_db = min_gain_db, max_gain_db

    def draw(self, generator: torch.Generator, length: int) -> float:
        """Gain of one item in dB."""
        return uniform(generator, self.min_gain_db, self.max_gain_db)

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Multiply each item by its gain; audio [b, T] and unchanged lengths [b]."""
        return value * 10 ** (column(drawn, value) / 20), length
