"""Pitch shifting."""

import torch
from torch import Tensor
from torchaudio.functional import phase_vocoder

from src.transforms.base import RandomTransform
from src.transforms.wave.speed import DENOMINATOR, change_speed
from src.utils.random import uniform

N_FFT = 512
HOP_LENGTH = 128


class Pitch(RandomTransform):
    """Shifts the pitch of each utterance and keeps its duration.

    The audio is resampled by the pitch ratio and stretched to its original duration with a
    phase vocoder (Flanagan and Golden, 1966).

    Args:
        min_semitones: lower bound of the shift in semitones.
        max_semitones: upper bound of the shift in semitones.
        p: probability of transforming an item.

    Raises:
        ValueError: a bound is not in [-24, 24], or the bounds are exchanged.
    """

    key = "audio"

    def __init__(self, min_semitones: float = -2.0, max_semitones: float = 2.0, p: float = 1.0):
        super().__init__(p)
        self.check_bounds("min_semitones", min_semitones, "max_semitones", max_semitones, -24, 24)
        self.min_semitones, self.max_semitones = min_semitones, max_semitones

    def draw(self, generator: torch.Generator, length: int) -> int:
        """Pitch ratio of one item in hundredths."""
        semitones = uniform(generator, self.min_semitones, self.max_semitones)
        return round(DENOMINATOR * 2 ** (semitones / 12))

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Shift each item [T] without its padding; audio [b, T] and unchanged lengths [b]."""
        shifted = torch.zeros_like(value)
        for i, (samples, factor) in enumerate(zip(length.tolist(), drawn, strict=True)):
            shifted[i, :samples] = shift_pitch(value[i, :samples], factor)
        return shifted, length


def shift_pitch(audio: Tensor, factor: int) -> Tensor:
    """Audio [T] with its pitch multiplied by `factor` hundredths, still [T]."""
    resampled = change_speed(audio, factor)
    if factor == DENOMINATOR or len(resampled) < N_FFT:
        return audio
    window = torch.hann_window(N_FFT, device=audio.device)
    spectrum = torch.stft(resampled, N_FFT, HOP_LENGTH, window=window, return_complex=True)
    n_bins = N_FFT // 2 + 1
    advance = torch.linspace(0, torch.pi * HOP_LENGTH, n_bins, device=audio.device).unsqueeze(1)
    stretched = phase_vocoder(spectrum, DENOMINATOR / factor, advance)
    return torch.istft(stretched, N_FFT, HOP_LENGTH, window=window, length=len(audio))
