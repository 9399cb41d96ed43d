"""Another pitch at the same duration."""

import torch
from torch import Tensor
from torchaudio.functional import phase_vocoder

from src.transforms.base import RandomTransform
from src.transforms.wave.speed import GRID, play
from src.utils.random import uniform

N_FFT = 512
HOP = 128


class Pitch(RandomTransform):
    """Shifts the pitch by a drawn number of semitones.

    Played faster by the ratio of the pitches, then stretched back with a phase vocoder
    (Flanagan and Golden, 1966).

    Args:
        low, high: bounds in semitones.
        probability: of changing an item.
    """

    key = "audio"

    def __init__(self, low: float = -2.0, high: float = 2.0, probability: float = 1.0):
        super().__init__(probability)
        self.low, self.high = low, high

    def draw(self, generator: torch.Generator, length: int) -> int:
        """The ratio of the pitches in hundredths."""
        return round(GRID * 2 ** (uniform(generator, self.low, self.high) / 12))

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Shift each item at its own length."""
        shifted = torch.zeros_like(value)
        for i, (samples, factor) in enumerate(zip(length.tolist(), drawn, strict=True)):
            shifted[i, :samples] = shift(value[i, :samples], factor)
        return shifted, length


def shift(audio: Tensor, factor: int) -> Tensor:
    """Audio [T] with its pitch times `factor` hundredths, still [T]."""
    faster = play(audio, factor)
    if factor == GRID or len(faster) < N_FFT:
        return audio
    window = torch.hann_window(N_FFT, device=audio.device)
    spectrum = torch.stft(faster, N_FFT, HOP, window=window, return_complex=True)
    advance = torch.linspace(0, torch.pi * HOP, N_FFT // 2 + 1, device=audio.device).unsqueeze(1)
    stretched = phase_vocoder(spectrum, GRID / factor, advance)
    return torch.istft(stretched, N_FFT, HOP, window=window, length=len(audio))
