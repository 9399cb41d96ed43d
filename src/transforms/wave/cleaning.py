"""Cleaning of recordings: loudness and noise; the same in training and inference."""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from src.transforms.base import resize
from src.utils.loudness import BLOCK, integrated_loudness
from src.utils.options import check_choice, check_number, check_whole

SHORTEST = 2048  # samples; shorter audio has too few frames to estimate its noise from
INSTALL = "pip install noisereduce"


class Cleaning(nn.Module, ABC):
    """Cleans each item of a batch by itself, without any randomness."""

    @abstractmethod
    def clean(self, audio: Tensor) -> Tensor:
        """The cleaned audio [T] of audio [T]."""

    def forward(self, audio: Tensor, audio_length: Tensor, **_) -> dict[str, Tensor]:
        """Clean each item without its padding.

        Args:
            audio: [B, T].
            audio_length: [B], in samples.

        Returns:
            `audio` [B, T].
        """
        items = [
            resize(self.clean(one[:samples]), audio.shape[1])
            for one, samples in zip(audio, audio_length.tolist(), strict=True)
        ]
        return {"audio": torch.stack(items)}


class Loudness(Cleaning):
    """Brings each utterance to the same loudness, after ITU-R BS.1770-4.

    An utterance whose peak would exceed full scale becomes as loud as it can without that. Silence
    stays silent. Sources of a mixture are scaled by the mixture's gain. Features that are
    normalised per utterance don't depend on the level, so this matters for others.

    Args:
        target_lufs: loudness of the output in LUFS.
        sample_rate: of the audio, in Hz.
        max_gain_db: largest gain in dB, so that noise alone isn't made as loud as speech.

    Raises:
        ValueError: an option has a bad value.
    """

    def __init__(
        self, target_lufs: float = -23.0, sample_rate: int = 16000, max_gain_db: float = 30.0
    ):
        super().__init__()
        check_number("Loudness, target_lufs", target_lufs, -70, 0, inclusive=True)
        check_whole("Loudness, sample_rate", sample_rate)
        check_number("Loudness, max_gain_db", max_gain_db, 0, 100, inclusive=True)
        self.target_lufs, self.sample_rate = target_lufs, sample_rate
        self.max_gain_db = max_gain_db

    def clean(self, audio: Tensor) -> Tensor:
        """Audio [T] at the loudness wanted."""
        return audio * self.gain(audio)

    def gain(self, audio: Tensor) -> float:
        """The factor that brings audio [T] to the loudness wanted."""
        peak = float(audio.abs().max()) if len(audio) else 0.0
        measured = measure_loudness(audio, self.sample_rate)
        if measured is None:
            return 1.0
        gain_db = min(self.target_lufs - measured, self.max_gain_db)
        return min(10 ** (gain_db / 20), 1 / peak)

    def forward(
        self, audio: Tensor, audio_length: Tensor, sources: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Scale each item.

        Args:
            audio: [B, T].
            audio_length: [B], in samples.
            sources: of mixtures, [B, S, T].

        Returns:
            `audio`, and `sources` if there are any.
        """
        pairs = zip(audio, audio_length.tolist(), strict=True)
        gains = audio.new_tensor([self.gain(one[:samples]) for one, samples in pairs])
        scaled = {"audio": audio * gains[:, None]}
        return scaled if sources is None else scaled | {"sources": sources * gains[:, None, None]}


class NoiseReduction(Cleaning):
    """Reduces noise by spectral gating, with the package noisereduce (MIT).

    The gate attenuates speech, too: on 50 recordings of a quiet room the default lowered the
    quietest tenth by 6 dB and the loudest twentieth by 3 dB. It takes a sixtieth of the audio's
    duration on a CPU core.

    Args:
        sample_rate: of the audio, in Hz.
        strength: of the reduction, from 0 to 1.
        stationary: whether the noise is the same throughout a recording; false: the estimate
            follows it.

    Raises:
        ValueError: the package is missing, or an option has a bad value.
    """

    def __init__(self, sample_rate: int = 16000, strength: float = 0.5, stationary: bool = False):
        super().__init__()
        check_whole("NoiseReduction, sample_rate", sample_rate)
        check_number("NoiseReduction, strength", strength, 0, 1, inclusive=True)
        check_choice("NoiseReduction, stationary", stationary, (True, False))
        try:
            from noisereduce import reduce_noise
        except ImportError:
            raise ValueError(f"NoiseReduction: needs `{INSTALL}`.") from None
        self.reduce_noise = reduce_noise
        self.sample_rate, self.strength, self.stationary = sample_rate, strength, stationary

    def clean(self, audio: Tensor) -> Tensor:
        """Audio [T] with less noise; shorter audio than 2,048 samples is unchanged."""
        if len(audio) < SHORTEST or not audio.any():
            return audio
        reduced = self.reduce_noise(
            y=audio.cpu().numpy(),
            sr=self.sample_rate,
            prop_decrease=self.strength,
            stationary=self.stationary,
        )
        return torch.from_numpy(reduced).to(audio)


def measure_loudness(audio: Tensor, sample_rate: int) -> float | None:
    """The loudness of audio [T] in LUFS; None for silence.

    Audio shorter than 0.4 s is repeated to that duration.

    Args:
        audio: [T].
        sample_rate: in Hz.
    """
    peak = float(audio.abs().max()) if len(audio) else 0.0
    if not peak:
        return None
    samples = audio.cpu().numpy() / peak  # quiet recordings are above the absolute gate, too
    needed = math.ceil(BLOCK * sample_rate)
    samples = np.tile(samples, -(-needed // len(samples))) if len(samples) < needed else samples
    measured = integrated_loudness(samples, sample_rate)
    return measured + 20 * math.log10(peak) if math.isfinite(measured) else None
