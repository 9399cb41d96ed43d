"""Warping of spectrograms along frequency or time."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform, column
from src.utils.lengths import padding_mask
from src.utils.random import uniform


def interpolate(value: Tensor, position: Tensor) -> Tensor:
    """Linear interpolation along the last axis.

    Args:
        value: [b, F, T].
        position: [b, N], fractional indices between 0 and T - 1.

    Returns:
        [b, F, N].
    """
    low = position.floor().clamp(0, value.shape[-1] - 1)
    high = (low + 1).clamp(max=value.shape[-1] - 1)
    fraction = (position - low).unsqueeze(1).to(value.dtype)
    bins = value.shape[1]

    def gather(index: Tensor) -> Tensor:
        return value.gather(2, index.long().unsqueeze(1).expand(-1, bins, -1))

    return gather(low) * (1 - fraction) + gather(high) * fraction


class Warp(RandomTransform):
    """Base class of transforms that stretch one axis of a spectrogram by a random factor.

    Args:
        min_factor: lower bound of the factor.
        max_factor: upper bound of the factor.
        p: probability of transforming an item.

    Raises:
        ValueError: a bound is not in [0.1, 10], or the bounds are exchanged.
    """

    key = "spectrogram"

    def __init__(self, min_factor: float = 0.9, max_factor: float = 1.1, p: float = 1.0):
        super().__init__(p)
        self.check_bounds("min_factor", min_factor, "max_factor", max_factor, 0.1, 10)
        self.min_factor, self.max_factor = min_factor, max_factor

    def draw(self, generator: torch.Generator, length: int) -> float:
        """Stretch factor of one item."""
        return uniform(generator, self.min_factor, self.max_factor)


class FrequencyWarp(Warp):
    """Stretches the frequency axis, which imitates another vocal tract length.

    After "Vocal Tract Length Perturbation" (Jaitly and Hinton, 2013), applied to mel bins: a
    factor of 1.1 moves bin 10 to bin 11.

    Args:
        min_factor: lower bound of the factor.
        max_factor: upper bound of the factor.
        p: probability of transforming an item.

    Raises:
        ValueError: a bound is not in [0.1, 10], or the bounds are exchanged.
    """

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Resample the frequency axis; [b, F, T] and unchanged lengths [b]."""
        bins = torch.arange(value.shape[1], device=value.device)
        position = (bins / column(drawn, value)[:, 0]).clamp(max=value.shape[1] - 1)
        return interpolate(value.transpose(1, 2), position).transpose(1, 2), length


class TimeWarp(Warp):
    """Stretches the time axis of each utterance: a factor above 1 gives slower speech.

    Args:
        min_factor: lower bound of the factor.
        max_factor: upper bound of the factor.
        p: probability of transforming an item.

    Raises:
        ValueError: a bound is not in [0.1, 10], or the bounds are exchanged.
    """

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Resample the time axis; [b, F, T'] and new lengths [b]."""
        factor = torch.tensor(drawn, dtype=torch.float64, device=value.device)
        new_length = (length * factor).round().long().clamp(min=1)
        frames = torch.arange(int(new_length.max()), device=value.device)
        position = torch.minimum(frames / factor.unsqueeze(1), (length - 1).unsqueeze(1))
        warped = interpolate(value, position.float())
        return warped * ~padding_mask(new_length, len(frames)).unsqueeze(1), new_length
