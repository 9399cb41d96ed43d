"""Stretching a spectrogram along frequency or time."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform, column
from src.utils.lengths import valid
from src.utils.random import uniform


def interpolate(value: Tensor, position: Tensor) -> Tensor:
    """Linear interpolation along the last axis.

    Args:
        value: [b, F, T].
        position: [b, N], where to read, between 0 and T - 1.

    Returns:
        [b, F, N].
    """
    low = position.floor().clamp(0, value.shape[-1] - 1)
    high = (low + 1).clamp(max=value.shape[-1] - 1)
    share = (position - low).unsqueeze(1).to(value.dtype)
    rows = value.shape[1]

    def read(index: Tensor) -> Tensor:
        return value.gather(2, index.long().unsqueeze(1).expand(-1, rows, -1))

    return read(low) * (1 - share) + read(high) * share


class Stretch(RandomTransform):
    """Draws by how much an axis is stretched.

    Args:
        low, high: bounds of the factor.
        probability: of changing an item.
    """

    key = "spectrogram"

    def __init__(self, low: float = 0.9, high: float = 1.1, probability: float = 1.0):
        super().__init__(probability)
        self.low, self.high = low, high

    def draw(self, generator: torch.Generator, length: int) -> float:
        """The factor."""
        return uniform(generator, self.low, self.high)


class FrequencyWarp(Stretch):
    """Stretches the frequency axis, as another length of the vocal tract would.

    After "Vocal Tract Length Perturbation" (Jaitly and Hinton, 2013), on mel bins: a factor of
    1.1 moves what was in bin 10 to bin 11.
    """

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Read every bin from where it came."""
        bins = torch.arange(value.shape[1], device=value.device)
        position = (bins / column(drawn, value)[:, 0]).clamp(max=value.shape[1] - 1)
        return interpolate(value.transpose(1, 2), position).transpose(1, 2), length


class TimeWarp(Stretch):
    """Stretches the whole time axis: the speech gets slower (a factor above 1) at its pitch."""

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Read every new frame from between the old ones."""
        factor = torch.tensor(drawn, dtype=torch.float64, device=value.device)
        new = (length * factor).round().long().clamp(min=1)
        frames = torch.arange(int(new.max()), device=value.device)
        position = torch.minimum(frames / factor.unsqueeze(1), (length - 1).unsqueeze(1))
        warped = interpolate(value, position.float())
        return warped * valid(new, len(frames)).unsqueeze(1), new
