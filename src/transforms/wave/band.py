"""Narrow channels: telephones, small loudspeakers, old recordings."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform
from src.utils.lengths import valid
from src.utils.random import uniform

PAD = 4096  # zeros after each utterance, so that what a filter spreads doesn't come round
ORDER = 4  # of the Butterworth magnitude


class BandLimit(RandomTransform):
    """Keeps the frequencies between two drawn edges.

    The filter has the magnitude of a Butterworth filter and no phase shift.

    Args:
        low: bounds of the lower edge in Hz.
        high: bounds of the upper edge in Hz.
        sample_rate: in Hz.
        probability: of changing an item.
    """

    key = "audio"

    def __init__(
        self,
        low: tuple[float, float] = (20.0, 400.0),
        high: tuple[float, float] = (3000.0, 7500.0),
        sample_rate: int = 16000,
        probability: float = 1.0,
    ):
        super().__init__(probability)
        self.low, self.high, self.sample_rate = tuple(low), tuple(high), sample_rate

    def draw(self, generator: torch.Generator, length: int) -> tuple[float, float]:
        """Both edges in Hz."""
        return uniform(generator, *self.low), uniform(generator, *self.high)

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Filter in the frequency domain, each item at its own length."""
        size = 1 << (value.shape[1] + PAD - 1).bit_length()
        spectrum = torch.fft.rfft(value, size)
        frequency = torch.fft.rfftfreq(size, 1 / self.sample_rate, device=value.device)
        edges = torch.tensor(drawn, device=value.device)
        below = (edges[:, :1] / frequency.clamp(min=1e-3)) ** (2 * ORDER)
        above = (frequency / edges[:, 1:]) ** (2 * ORDER)
        filtered = torch.fft.irfft(spectrum * ((1 + below) * (1 + above)).rsqrt(), size)
        return filtered[:, : value.shape[1]] * valid(length, value.shape[1]), length
