"""SpecAugment: bands of frequency and stretches of time are hidden (arXiv 1904.08779)."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform
from src.utils.random import uniform

Spans = list[tuple[float, float]]  # (start, width), each a share of what is left to place it in


class SpecAugment(RandomTransform):
    """Sets some bands and stretches of each spectrogram to 0, the mean after normalisation.

    Args:
        frequency_masks: how many.
        frequency_width: of one at most, in bins.
        time_masks: how many.
        time_width: of one at most, in frames.
        time_share: of one at most, of the utterance.
        probability: of changing an item.
    """

    key = "spectrogram"

    def __init__(
        self,
        frequency_masks: int = 2,
        frequency_width: int = 27,
        time_masks: int = 10,
        time_width: int = 40,
        time_share: float = 0.05,
        probability: float = 1.0,
    ):
        super().__init__(probability)
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_width = time_masks, time_width
        self.time_share = time_share

    def draw(self, generator: torch.Generator, length: int) -> tuple[Spans, Spans]:
        """Where the masks lie: shares of the room there is."""
        longest = min(self.time_width, int(self.time_share * length))
        frequency = spans(generator, self.frequency_masks, self.frequency_width)
        return frequency, spans(generator, self.time_masks, longest)

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Hide what was drawn."""
        bins, frames = value.shape[1:]
        rows = torch.full_like(length, bins)
        hidden_bins = covered([f for f, _ in drawn], rows, bins)
        hidden_frames = covered([t for _, t in drawn], length, frames)
        hidden = hidden_bins.unsqueeze(2) | hidden_frames.unsqueeze(1)
        return value.masked_fill(hidden, 0.0), length


def spans(generator: torch.Generator, count: int, longest: int) -> Spans:
    """Positions (share of the free room) and widths (0 to `longest`) of `count` masks."""
    return [
        (uniform(generator, 0, 1), float(int(uniform(generator, 0, longest + 1))))
        for _ in range(count)
    ]


def covered(drawn: list[Spans], length: Tensor, size: int) -> Tensor:
    """Which places the spans of each item cover, as [b, size]; all lie before its length."""
    if not drawn[0]:
        return torch.zeros(len(drawn), size, dtype=torch.bool, device=length.device)
    table = torch.tensor(drawn, dtype=torch.float64, device=length.device)  # [b, count, 2]
    width = torch.minimum(table[..., 1], length.unsqueeze(1))
    start = (table[..., 0] * (length.unsqueeze(1) - width + 1)).floor()
    place = torch.arange(size, device=length.device)
    inside = (place >= start.unsqueeze(2)) & (place < (start + width).unsqueeze(2))
    return inside.any(dim=1)
