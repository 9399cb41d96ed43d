"""Noise at a drawn signal-to-noise ratio."""

from pathlib import Path

import torch
from torch import Tensor

from src.transforms.base import RandomTransform
from src.utils.audio import read_recordings
from src.utils.lengths import valid
from src.utils.random import uniform


class AddNoise(RandomTransform):
    """Adds a recording of noise, or white noise, to each utterance.

    The energies are those of the utterance's own samples and of the piece of noise that is added
    to them. A noise shorter than the utterance is repeated. Silence stays silent.

    Args:
        manifest: JSON lines with audio_filepath; None: white noise.
        low, high: bounds of the ratio in dB.
        sample_rate: of the audio, in Hz.
        probability: of changing an item.
    """

    key = "audio"

    def __init__(
        self,
        manifest: str | None = None,
        low: float = 5.0,
        high: float = 30.0,
        sample_rate: int = 16000,
        probability: float = 1.0,
    ):
        super().__init__(probability)
        self.low, self.high, self.sample_rate = low, high, sample_rate
        self.manifest = Path(manifest) if manifest else None
        self.noises: list[Tensor] | None = None

    def read(self, manifest: Path) -> list[Tensor]:
        """All noises, read when the first is needed.

        Raises:
            FileNotFoundError: the manifest or a file is missing.
        """
        if self.noises is None:
            self.noises = read_recordings(manifest, self.sample_rate)
        return self.noises

    def draw(self, generator: torch.Generator, length: int) -> tuple[float, Tensor]:
        """The ratio in dB, and as much noise as there is speech."""
        ratio = uniform(generator, self.low, self.high)
        if self.manifest is None:
            return ratio, torch.randn(length, generator=generator)
        noises = self.read(self.manifest)
        noise = noises[int(uniform(generator, 0, len(noises)))]
        start = int(uniform(generator, 0, len(noise)))
        repeats = -(-(start + length) // len(noise))
        return ratio, noise.repeat(repeats)[start : start + length]

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Scale each noise to its ratio, and add it."""
        noise = torch.zeros_like(value)
        for row, (_, piece) in zip(noise, drawn, strict=True):
            row[: len(piece)] = piece
        ratio = torch.tensor([ratio for ratio, _ in drawn], device=value.device)
        mask = valid(length, value.shape[-1])
        speech_energy = (value * mask).square().sum(1)
        noise_energy = noise.square().sum(1)
        wanted = speech_energy / 10 ** (ratio / 10)
        scale = torch.where(noise_energy > 0, (wanted / noise_energy).sqrt(), 0.0)
        return value + noise * scale.unsqueeze(1), length
