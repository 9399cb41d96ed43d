"""Band limiting, as by telephones and small loudspeakers."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform
from src.utils.lengths import padding_mask
from src.utils.random import uniform

PADDING = 4096  # zeros that absorb the circular wrap-around of the frequency-domain filter
ORDER = 4  # of the Butterworth magnitude response


class BandLimit(RandomTransform):
    """Band-pass filter with random cutoff frequencies and zero phase.

    The magnitude response is that of a fourth-order Butterworth high-pass followed by a low-pass.

    Args:
        min_low_cutoff: lower bound of the high-pass cutoff in Hz.
        max_low_cutoff: upper bound of the high-pass cutoff in Hz.
        min_high_cutoff: lower bound of the low-pass cutoff in Hz.
        max_high_cutoff: upper bound of the low-pass cutoff in Hz.
        sample_rate: in Hz.
        p: probability of transforming an item.

    Raises:
        ValueError: a bound is not a number above 0, or two bounds are exchanged.
    """

    key = "audio"

    def __init__(
        self,
        min_low_cutoff: float = 20.0,
        max_low_cutoff: float = 400.0,
        min_high_cutoff: float = 3000.0,
        max_high_cutoff: float = 7500.0,
        sample_rate: int = 16000,
        p: float = 1.0,
    ):
        super().__init__(p)
        for name, low, high in (
            ("low", min_low_cutoff, max_low_cutoff),
            ("high", min_high_cutoff, max_high_cutoff),
        ):
            names = f"min_{name}_cutoff", f"max_{name}_cutoff"
            self.check_bounds(names[0], low, names[1], high, 0, sample_rate, inclusive=False)
        self.low_cutoff = (min_low_cutoff, max_low_cutoff)
        self.high_cutoff = (min_high_cutoff, max_high_cutoff)
        self.sample_rate = sample_rate

    def draw(self, generator: torch.Generator, length: int) -> tuple[float, float]:
        """High-pass and low-pass cutoff of one item in Hz."""
        return uniform(generator, *self.low_cutoff), uniform(generator, *self.high_cutoff)

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Filter each item in the frequency domain; audio [b, T] and unchanged lengths [b]."""
        size = 1 << (value.shape[1] + PADDING - 1).bit_length()
        spectrum = torch.fft.rfft(value, size)
        frequency = torch.fft.rfftfreq(size, 1 / self.sample_rate, device=value.device)
        cutoffs = torch.tensor(drawn, device=value.device)
        below = (cutoffs[:, :1] / frequency.clamp(min=1e-3)) ** (2 * ORDER)
        above = (frequency / cutoffs[:, 1:]) ** (2 * ORDER)
        filtered = torch.fft.irfft(spectrum * ((1 + below) * (1 + above)).rsqrt(), size)
        return filtered[:, : value.shape[1]] * ~padding_mask(length, value.shape[1]), length
