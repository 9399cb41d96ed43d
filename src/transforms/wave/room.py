"""Rooms: what the walls add."""

from pathlib import Path

import torch
from torch import Tensor

from src.transforms.base import RandomTransform
from src.utils.audio import read_recordings
from src.utils.lengths import valid
from src.utils.random import uniform


class RoomResponse(RandomTransform):
    """Convolves each utterance with a room's impulse response.

    The direct sound stays where it was, the length and the level (RMS) too. Without recorded
    responses one is drawn: the direct sound, then noise that decays by 60 dB within the
    reverberation time, after Polack's model of late reverberation.

    Args:
        manifest: JSON lines with audio_filepath; None: drawn responses.
        low, high: bounds of the drawn reverberation time in seconds.
        sample_rate: in Hz.
        probability: of changing an item.
    """

    key = "audio"

    def __init__(
        self,
        manifest: str | None = None,
        low: float = 0.1,
        high: float = 0.6,
        sample_rate: int = 16000,
        probability: float = 1.0,
    ):
        super().__init__(probability)
        self.low, self.high, self.sample_rate = low, high, sample_rate
        self.responses: list[Tensor] = []
        if manifest is not None:
            self.responses = read_responses(Path(manifest), sample_rate)

    def draw(self, generator: torch.Generator, length: int) -> Tensor:
        """An impulse response [R] that starts with the direct sound."""
        if self.responses:
            return self.responses[int(uniform(generator, 0, len(self.responses)))]
        seconds = uniform(generator, self.low, self.high)
        size = int(seconds * self.sample_rate)
        noise = torch.randn(size, generator=generator)
        decay = 10 ** (-3 * torch.arange(size) / size)
        response = 0.1 * uniform(generator, 0.2, 1.0) * noise * decay
        response[0] = 1.0
        return response

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Convolve, cut to the length, restore the level."""
        frames = value.shape[1]
        longest = max(len(response) for response in drawn)
        responses = torch.zeros(len(drawn), longest, device=value.device)
        for row, response in zip(responses, drawn, strict=True):
            row[: len(response)] = response
        mask = valid(length, frames)
        size = 1 << (frames + longest - 1).bit_length()
        product = torch.fft.rfft(value * mask, size) * torch.fft.rfft(responses, size)
        wet = torch.fft.irfft(product, size)[:, :frames] * mask
        before, after = energy(value * mask), energy(wet)
        return wet * torch.where(after > 0, (before / after).sqrt(), 0.0).unsqueeze(1), length


def energy(audio: Tensor) -> Tensor:
    """[b, T] to [b]."""
    return audio.square().sum(1)


def read_responses(manifest: Path, sample_rate: int) -> list[Tensor]:
    """The responses of a manifest, each cut to start at its direct sound, its loudest sample.

    Raises:
        FileNotFoundError: the manifest or a file is missing.
    """
    responses = read_recordings(manifest, sample_rate)
    return [response[int(response.abs().argmax()) :] for response in responses]
