"""Additive noise at a random signal-to-noise ratio."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform
from src.transforms.wave.recordings import Recordings, recordings_path
from src.utils.lengths import padding_mask
from src.utils.random import uniform


class AddWhiteNoise(RandomTransform):
    """Adds Gaussian white noise to each utterance at a random signal-to-noise ratio.

    The ratio is that of the energies over the whole utterance. Silent utterances stay silent.

    Args:
        min_snr_db: lower bound of the signal-to-noise ratio in dB.
        max_snr_db: upper bound of the signal-to-noise ratio in dB.
        p: probability of transforming an item.

    Raises:
        ValueError: a bound is not in [-100, 100] dB, or the bounds are exchanged.
    """

    key = "audio"

    def __init__(self, min_snr_db: float = 5.0, max_snr_db: float = 30.0, p: float = 1.0):
        super().__init__(p)
        self.check_bounds("min_snr_db", min_snr_db, "max_snr_db", max_snr_db, -100, 100)
        self.min_snr_db, self.max_snr_db = min_snr_db, max_snr_db

    def draw(self, generator: torch.Generator, length: int) -> tuple[float, Tensor]:
        """Signal-to-noise ratio in dB and noise [length] of one item."""
        snr_db = uniform(generator, self.min_snr_db, self.max_snr_db)
        return snr_db, self.noise(generator, length)

    def noise(self, generator: torch.Generator, length: int) -> Tensor:
        """Noise [length] of one item, at any level."""
        return torch.randn(length, generator=generator)

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Scale each noise to its ratio and add it; audio [b, T] and unchanged lengths [b]."""
        noise = torch.zeros_like(value)
        for row, (_, samples) in zip(noise, drawn, strict=True):
            row[: len(samples)] = samples
        snr_db = torch.tensor([snr_db for snr_db, _ in drawn], device=value.device)
        speech_energy = (value * ~padding_mask(length, value.shape[-1])).square().sum(1)
        noise_energy = noise.square().sum(1)
        target_energy = speech_energy / 10 ** (snr_db / 10)
        scale = torch.where(noise_energy > 0, (target_energy / noise_energy).sqrt(), 0.0)
        return value + noise * scale.unsqueeze(1), length


class AddNoise(AddWhiteNoise):
    """Adds a random excerpt of a noise recording to each utterance.

    The ratio is that of the energies of the utterance and of the excerpt added to it. A
    recording shorter than the utterance is repeated. Silent utterances stay silent.

    Args:
        manifest: noise recordings as JSON lines with `audio_filepath`, or a folder of them, e.g.
            of MUSAN; read on first use. None: nothing is added.
        min_snr_db: lower bound of the signal-to-noise ratio in dB.
        max_snr_db: upper bound of the signal-to-noise ratio in dB.
        sample_rate: in Hz.
        p: probability of transforming an item.

    Raises:
        ValueError: a bound is not in [-100, 100] dB, or the bounds are exchanged.
    """

    def __init__(
        self,
        manifest: str | None = None,
        min_snr_db: float = 5.0,
        max_snr_db: float = 30.0,
        sample_rate: int = 16000,
        p: float = 1.0,
    ):
        super().__init__(min_snr_db, max_snr_db, p)
        path = recordings_path(type(self).__name__, manifest)
        self.recordings = Recordings(path, sample_rate) if path else None

    def forward(self, seed: Tensor, **batch) -> dict[str, Tensor]:
        """Add noise to a random subset of the items.

        Args:
            seed: [B], int64, one seed per item.
            **batch: contains `audio` [B, T] and `audio_length` [B].

        Returns:
            `audio` and `audio_length`; an empty dict without a manifest or if no item was
            selected.

        Raises:
            FileNotFoundError: the manifest or a recording does not exist.
            ValueError: the manifest lists no recordings, or one is not readable.
        """
        if self.recordings is None:
            return {}
        self.recordings.check()  # now, not at the first item that noise is drawn for
        return super().forward(seed, **batch)

    def noise(self, generator: torch.Generator, length: int) -> Tensor:
        """A random excerpt [length] of a random recording, repeated where it is too short."""
        recordings: Recordings = self.recordings  # type: ignore[assignment]
        index = int(uniform(generator, 0, len(recordings)))
        return recordings.excerpt(index, uniform(generator, 0, 1), length)
