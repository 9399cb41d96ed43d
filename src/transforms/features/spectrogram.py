"""Linear spectrograms, as Deep Speech 2 has them (arXiv 1512.02595)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.transforms.features.normalize import normalize
from src.transforms.features.stft import PowerSpectrogram
from src.utils.lengths import valid


class LogSpectrogram(nn.Module):
    """log(1 + magnitude) at linear frequencies.

    Args:
        n_fft: points of the Fourier transform; n_fft // 2 + 1 bins come out.
        window: in samples.
        hop: in samples.
        normalization: `bands`, `utterance` or `none`, as for `LogMel`.
    """

    def __init__(
        self, n_fft: int = 320, window: int = 320, hop: int = 160, normalization: str = "utterance"
    ):
        super().__init__()
        self.power = PowerSpectrogram(n_fft, window, hop)
        self.normalization = normalization

    def output_length(self, samples):
        """Frames of so many samples (an int, array or tensor)."""
        return self.power.output_length(samples)

    @torch.no_grad()
    def forward(
        self, audio: Float[Tensor, "B T"], audio_length: Int[Tensor, " B"], **_
    ) -> dict[str, Tensor]:
        """`spectrogram` [B, bins, frames] and its lengths; zeros beyond them."""
        with torch.autocast(audio.device.type, enabled=False):
            power, length = self.power(audio.float(), audio_length)
            mask = valid(length, power.shape[-1]).unsqueeze(1)
            spectrogram = normalize(torch.log1p(power.sqrt()), mask, self.normalization)
        return {"spectrogram": spectrogram * mask, "spectrogram_length": length}
