"""Log-mel spectrograms."""

import math

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from src.transforms.features.normalize import NORMALIZATIONS, check_streaming, normalize
from src.transforms.features.stft import PowerSpectrogram
from src.utils.lengths import padding_mask
from src.utils.options import check_choice, check_number, check_whole
from src.utils.stages import Sliding

LOG_OFFSET = 2.0**-24  # added to the energies before the logarithm


class LogMel(nn.Module):
    """Logarithm of the energies of a mel filterbank (Slaney's scale and area normalisation).

    With `preemphasis=0.97, symmetric_window=True, drop_last_frame=True, pad_to=16` it computes
    the features of NVIDIA NeMo's AudioToMelSpectrogramPreprocessor.

    Args:
        sample_rate: in Hz.
        n_fft: size of the Fourier transform.
        win_length: window size in samples.
        hop_length: distance between frames in samples.
        n_mels: number of mel bins.
        f_min: lower edge of the first filter in Hz.
        f_max: upper edge of the last filter in Hz; None: sample_rate / 2.
        normalization: zero mean and unit deviation over each utterance: `per_feature` (each bin
            separately), `all_features` (all bins together) or `none`.
        fixed_mean, fixed_std: subtracted from all logarithms, and what they are divided by, before
            the normalisation; for streams, where there is none.
        preemphasis: coefficient of the filter x[t] - preemphasis * x[t - 1]; 0 disables it.
        symmetric_window: use a symmetric Hann window instead of a periodic one.
        drop_last_frame: T // hop_length frames instead of T // hop_length + 1.
        pad_to: zero-pad the time axis to a multiple of this number of frames; lengths are not
            changed. 0 disables it.

    Raises:
        ValueError: an argument is out of range.
    """

    filterbank: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        win_length: int = 400,
        hop_length: int = 160,
        n_mels: int = 80,
        f_min: float = 0.0,
        f_max: float | None = None,
        normalization: str = "per_feature",
        fixed_mean: float = 0.0,
        fixed_std: float = 1.0,
        preemphasis: float = 0.0,
        symmetric_window: bool = False,
        drop_last_frame: bool = False,
        pad_to: int = 0,
    ):
        super().__init__()
        check_whole("features, sample_rate", sample_rate)
        check_whole("features, n_mels", n_mels)
        check_number("features, f_max", f_max, 0, sample_rate / 2, optional=True)
        f_top = f_max or sample_rate / 2
        check_number("features, f_min", f_min, 0, f_top, inclusive=True)
        check_choice("features, normalization", normalization, NORMALIZATIONS)
        check_number("features, fixed_mean", fixed_mean, -math.inf)
        check_number("features, fixed_std", fixed_std)
        check_number("features, preemphasis", preemphasis, 0, 1, inclusive=True)
        check_whole("features, pad_to", pad_to, low=0)
        self.power = PowerSpectrogram(n_fft, win_length, hop_length, symmetric_window)
        filterbank = melscale_fbanks(
            n_fft // 2 + 1, f_min, f_top, n_mels, sample_rate, "slaney", "slaney"
        )
        self.register_buffer("filterbank", filterbank.T.contiguous(), persistent=False)
        self.sample_rate, self.n_mels, self.normalization = sample_rate, n_mels, normalization
        self.f_min, self.f_max = f_min, f_max
        self.symmetric_window, self.drop_last_frame = symmetric_window, drop_last_frame
        self.preemphasis, self.pad_to = preemphasis, pad_to
        self.fixed_mean, self.fixed_std = fixed_mean, fixed_std

    def output_length(self, samples):
        """Number of frames for a number of samples (int, array or tensor)."""
        return self.power.output_length(samples) - int(self.drop_last_frame)

    def streaming_stage(self) -> Sliding:
        """Log-mel spectrograms of a stream: [B, T] to [B, n_mels, frames].

        Raises:
            ValueError: the normalisation needs the whole utterance.
        """
        check_streaming(self.normalization)
        return self.power.streaming_stage(self.log_mel)

    def forward(
        self, audio: Tensor, audio_length: Tensor, noisy_audio: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """Log-mel spectrogram of a batch, and of its noisy version where there is one.

        Args:
            audio: [B, T].
            audio_length: [B], in samples.
            noisy_audio: [B, T], the audio with noise or other speech mixed in, of equal lengths.

        Returns:
            `spectrogram` [B, n_mels, frames], zero beyond `spectrogram_length` [B]; with
            `noisy_audio` also `noisy_spectrogram` and `noisy_spectrogram_length`.
        """
        mel, length = self.log_mel(audio, audio_length)
        features = {"spectrogram": mel, "spectrogram_length": length}
        if noisy_audio is not None:
            noisy = mel if noisy_audio is audio else self.log_mel(noisy_audio, audio_length)[0]
            features |= {"noisy_spectrogram": noisy, "noisy_spectrogram_length": length}
        return features

    def log_mel(self, audio: Tensor, audio_length: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel spectrogram [B, n_mels, frames] and its lengths [B] in frames.

        Args:
            audio: [B, T].
            audio_length: [B], in samples.
        """
        with torch.autocast(audio.device.type, enabled=False):
            audio = self.preemphasise(audio.float(), audio_length)
            power, length = self.power(audio, audio_length)
            mel = torch.log(self.filterbank @ power + LOG_OFFSET)
            mel = (mel - self.fixed_mean) / self.fixed_std
            length = length - int(self.drop_last_frame)
            mask = ~padding_mask(length, mel.shape[-1]).unsqueeze(1)
            mel = normalize(mel, mask, self.normalization) * mask
        if self.pad_to:
            mel = nn.functional.pad(mel, (0, -mel.shape[-1] % self.pad_to))
        return mel, length

    def preemphasise(self, audio: Tensor, audio_length: Tensor) -> Tensor:
        """Apply the pre-emphasis filter to audio [B, T] with its padding set to zero."""
        if not self.preemphasis:
            return audio
        audio = audio * ~padding_mask(audio_length, audio.shape[-1])
        previous = nn.functional.pad(audio[:, :-1], (1, 0))
        return audio - self.preemphasis * previous
