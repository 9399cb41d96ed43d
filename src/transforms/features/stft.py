"""The short-time Fourier transform that all features start from."""

import torch
from torch import Tensor, nn

from src.utils.lengths import valid


class PowerSpectrogram(nn.Module):
    """Squared magnitude of the short-time Fourier transform.

    Frames are centred, with zeros beyond both ends of the utterance, so that an utterance looks
    the same alone and beside a longer one. The window is a Hann window.

    Args:
        n_fft: points of the transform.
        window: in samples, at most n_fft.
        hop: in samples.
        symmetric: the window falls to zero at both ends, not at the first alone.
    """

    window: Tensor

    def __init__(self, n_fft: int, window: int, hop: int, symmetric: bool = False):
        super().__init__()
        if window > n_fft:
            raise ValueError(f"features: window {window} is longer than n_fft {n_fft}.")
        self.n_fft, self.window_length, self.hop = n_fft, window, hop
        shape = torch.hann_window(window, periodic=not symmetric)
        self.register_buffer("window", shape, persistent=False)

    def output_length(self, samples):
        """Frames of so many samples (an int, array or tensor)."""
        return samples // self.hop + 1

    def forward(self, audio: Tensor, audio_length: Tensor) -> tuple[Tensor, Tensor]:
        """Power of each frame.

        Args:
            audio: [B, T].
            audio_length: [B].

        Returns:
            [B, n_fft // 2 + 1, frames] and the lengths in frames [B].
        """
        audio = audio * valid(audio_length, audio.shape[-1])
        spectrum = torch.stft(
            audio,
            self.n_fft,
            self.hop,
            self.window_length,
            self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.real.square() + spectrum.imag.square(), self.output_length(audio_length)
