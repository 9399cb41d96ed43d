"""SpecAugment: masking of frequency bands and time spans (arXiv 1904.08779, 1912.05533)."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform
from src.utils.options import check_whole
from src.utils.random import uniform

Spans = list[tuple[float, float]]  # (start as a fraction of the free positions, width)
MOST_TIME_MASKS = 20  # with a number that grows with the length (arXiv 1912.05533)


class SpecAugment(RandomTransform):
    """Sets random frequency bands and time spans of each spectrogram to 0.

    Zero is the mean of a normalised spectrogram. Mask widths are uniform from 0 to the maximum.

    Args:
        n_freq_masks: number of frequency masks (mF in the paper).
        freq_mask_param: maximum width of a frequency mask in bins (F).
        n_time_masks: number of time masks (mT).
        time_mask_param: maximum width of a time mask in frames (T).
        time_fraction: maximum width of a time mask as a fraction of the utterance (p in the
            paper).
        time_masks_per_frame: number of time masks as a fraction of the frames, at most 20, instead
            of `n_time_masks` (adaptive multiplicity, Park et al., arXiv 1912.05533: 0.04, with a
            `time_fraction` of 0.04); None: the same number for every length.
        p: probability of transforming an item.

    Raises:
        ValueError: a number or width of masks is not a whole number from 0, or a fraction or
            probability is not in [0, 1].
    """

    key = "spectrogram"

    def __init__(
        self,
        n_freq_masks: int = 2,
        freq_mask_param: int = 27,
        n_time_masks: int = 10,
        time_mask_param: int = 40,
        time_fraction: float = 0.05,
        time_masks_per_frame: float | None = None,
        p: float = 1.0,
    ):
        super().__init__(p)
        check_whole("SpecAugment, n_freq_masks", n_freq_masks, 0)
        check_whole("SpecAugment, freq_mask_param", freq_mask_param, 0)
        check_whole("SpecAugment, n_time_masks", n_time_masks, 0)
        check_whole("SpecAugment, time_mask_param", time_mask_param, 0)
        self.check_number("time_fraction", time_fraction, 0, 1)
        if time_masks_per_frame is not None:
            self.check_number("time_masks_per_frame", time_masks_per_frame, 0, 1)
        self.n_freq_masks, self.freq_mask_param = n_freq_masks, freq_mask_param
        self.n_time_masks, self.time_mask_param = n_time_masks, time_mask_param
        self.time_fraction, self.time_masks_per_frame = time_fraction, time_masks_per_frame

    def draw(self, generator: torch.Generator, length: int) -> tuple[Spans, Spans]:
        """Relative positions and widths of the frequency and the time masks of one item."""
        max_width = min(self.time_mask_param, int(self.time_fraction * length))
        frequency = draw_spans(generator, self.n_freq_masks, self.freq_mask_param)
        return frequency, draw_spans(generator, self.time_masks(length), max_width)

    def time_masks(self, length: int) -> int:
        """Number of time masks of an utterance of `length` frames."""
        if self.time_masks_per_frame is None:
            return self.n_time_masks
        return min(MOST_TIME_MASKS, int(self.time_masks_per_frame * length))

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Mask each item; [b, F, T] and unchanged lengths [b]."""
        bins, frames = value.shape[1:]
        bin_count = torch.full_like(length, bins)
        frequency_mask = span_mask([frequency for frequency, _ in drawn], bin_count, bins)
        time_mask = span_mask([time for _, time in drawn], length, frames)
        mask = frequency_mask.unsqueeze(2) | time_mask.unsqueeze(1)
        return value.masked_fill(mask, 0.0), length


def draw_spans(generator: torch.Generator, count: int, max_width: int) -> Spans:
    """`count` spans: start as a fraction of the free positions, and width from 0 to `max_width`."""
    return [
        (uniform(generator, 0, 1), float(int(uniform(generator, 0, max_width + 1))))
        for _ in range(count)
    ]


def span_mask(spans: list[Spans], length: Tensor, size: int) -> Tensor:
    """Mask of the positions that the spans of each item cover.

    Args:
        spans: of each item.
        length: [b], positions of each item; the spans lie within them.
        size: of the padded axis.

    Returns:
        [b, size], bool, True inside a span.
    """
    most = max(map(len, spans))
    if not most:
        return torch.zeros(len(spans), size, dtype=torch.bool, device=length.device)
    spans = [[*own, *[(0.0, 0.0)] * (most - len(own))] for own in spans]  # of no width
    table = torch.tensor(spans, dtype=torch.float64, device=length.device)  # [b, count, 2]
    width = torch.minimum(table[..., 1], length.unsqueeze(1))
    start = (table[..., 0] * (length.unsqueeze(1) - width + 1)).floor()
    position = torch.arange(size, device=length.device)
    covered = (position >= start.unsqueeze(2)) & (position < (start + width).unsqueeze(2))
    return covered.any(dim=1)
