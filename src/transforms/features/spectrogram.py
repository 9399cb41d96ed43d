"""Linear-frequency log spectrograms, the input of Deep Speech 2 (arXiv 1512.02595)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.transforms.features.normalize import NORMALIZATIONS, check_streaming, normalize
from src.transforms.features.stft import PowerSpectrogram
from src.utils.lengths import padding_mask
from src.utils.options import check_choice
from src.utils.stages import Sliding


class LogSpectrogram(nn.Module):
    """log(1 + magnitude) of the short-time Fourier transform.

    Args:
        n_fft: size of the Fourier transform; the spectrogram has n_fft // 2 + 1 bins.
        win_length: window size in samples.
        hop_length: distance between frames in samples.
        normalization: zero mean and unit deviation over each utterance: `per_feature` (each bin
            separately), `all_features` (all bins together) or `none`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        n_fft: int = 320,
        win_length: int = 320,
        hop_length: int = 160,
        normalization: str = "all_features",
    ):
        super().__init__()
        check_choice("features, normalization", normalization, NORMALIZATIONS)
        self.power = PowerSpectrogram(n_fft, win_length, hop_length)
        self.normalization = normalization

    def output_length(self, samples):
        """Number of frames for a number of samples (int, array or tensor)."""
        return self.power.output_length(samples)

    def streaming_stage(self) -> Sliding:
        """Spectrograms of a stream: [B, T] to [B, n_fft // 2 + 1, frames].

        Raises:
            ValueError: the normalisation needs the whole utterance.
        """
        check_streaming(self.normalization)
        return self.power.streaming_stage(self.log_spectrogram)

    def forward(
        self, audio: Float[Tensor, "B T"], audio_length: Int[Tensor, " B"], **_
    ) -> dict[str, Tensor]:
        """`spectrogram` [B, n_fft // 2 + 1, frames], zero beyond `spectrogram_length` [B]."""
        spectrogram, length = self.log_spectrogram(audio, audio_length)
        return {"spectrogram": spectrogram, "spectrogram_length": length}

    def log_spectrogram(self, audio: Tensor, audio_length: Tensor) -> tuple[Tensor, Tensor]:
        """Log spectrogram [B, n_fft // 2 + 1, frames] and its lengths [B] in frames.

        Args:
            audio: [B, T].
            audio_length: [B], in samples.
        """
        with torch.autocast(audio.device.type, enabled=False):
            power, length = self.power(audio.float(), audio_length)
            mask = ~padding_mask(length, power.shape[-1]).unsqueeze(1)
            spectrogram = normalize(torch.log1p(power.sqrt()), mask, self.normalization)
        return spectrogram * mask, length
