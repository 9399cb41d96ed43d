"""Log-mel spectrograms."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from src.transforms.features.normalize import normalize
from src.transforms.features.stft import PowerSpectrogram
from src.utils.lengths import valid

GUARD = 2.0**-24  # added before the logarithm


class LogMel(nn.Module):
    """Logarithm of the energy in mel bands.

    Args:
        sample_rate: in Hz.
        n_fft: points of the Fourier transform.
        window: in samples.
        hop: in samples.
        n_mels: bands.
        f_min, f_max: edges of the lowest and the highest band, in Hz; None: half the rate.
        normalization: `bands` (each band to mean 0, deviation 1 over the utterance), `utterance`
            (all of it together) or `none`.
    """

    bands: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        window: int = 400,
        hop: int = 160,
        n_mels: int = 80,
        f_min: float = 0.0,
        f_max: float | None = None,
        normalization: str = "bands",
    ):
        super().__init__()
        self.power = PowerSpectrogram(n_fft, window, hop)
        bands = melscale_fbanks(
            n_fft // 2 + 1, f_min, f_max or sample_rate / 2, n_mels, sample_rate, "slaney", "slaney"
        )
        self.register_buffer("bands", bands.T.contiguous(), persistent=False)
        self.n_mels, self.normalization = n_mels, normalization

    def output_length(self, samples):
        """Frames of so many samples (an int, array or tensor)."""
        return self.power.output_length(samples)

    @torch.no_grad()
    def forward(
        self, audio: Float[Tensor, "B T"], audio_length: Int[Tensor, " B"], **_
    ) -> dict[str, Tensor]:
        """`spectrogram` [B, n_mels, frames] and its lengths; zeros beyond them."""
        with torch.autocast(audio.device.type, enabled=False):
            power, length = self.power(audio.float(), audio_length)
            mel = torch.log(self.bands @ power + GUARD)
            mask = valid(length, mel.shape[-1]).unsqueeze(1)
            mel = normalize(mel, mask, self.normalization)
        return {"spectrogram": mel * mask, "spectrogram_length": length}
