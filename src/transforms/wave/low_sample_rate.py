"""Speech that was recorded at a lower sample rate, as by telephones."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from src.transforms.base import RandomTransform
from src.utils.options import check_whole
from src.utils.random import uniform
from src.utils.resampling import resample


class LowSampleRate(RandomTransform):
    """Resamples each utterance to a lower sample rate and back.

    Above half of that rate nearly nothing is left, as in a recording of 8 kHz that is resampled
    for a model of 16 kHz; `BandLimit` only attenuates.

    Args:
        sample_rates: to choose from, in Hz.
        sample_rate: of the audio, in Hz.
        p: probability of transforming an item.

    Raises:
        ValueError: `sample_rates` is empty, or one isn't a whole number from 1 up to `sample_rate`.
    """

    key = "audio"

    def __init__(
        self, sample_rates: Sequence[int] = (8000,), sample_rate: int = 16000, p: float = 1
    ):
        super().__init__(p)
        self.sample_rates, self.sample_rate = list(sample_rates), sample_rate
        if not self.sample_rates:
            raise ValueError("LowSampleRate, sample_rates: []; a list of rates in Hz, not empty.")
        for i, rate in enumerate(self.sample_rates):
            check_whole(f"LowSampleRate, sample_rates[{i}]", rate, high=sample_rate)

    def draw(self, generator: torch.Generator, length: int) -> int:
        """Lower sample rate of one item in Hz."""
        return self.sample_rates[int(uniform(generator, 0, len(self.sample_rates)))]

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Resample each item [T] without its padding; audio [b, T] and unchanged lengths [b]."""
        items = [
            resample(resample(audio[:samples], self.sample_rate, rate), rate, self.sample_rate)
            for audio, samples, rate in zip(value, length.tolist(), drawn, strict=True)
        ]
        cut = [item[:samples] for item, samples in zip(items, length.tolist(), strict=True)]
        return pad_sequence(cut, batch_first=True), length
