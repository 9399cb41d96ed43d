"""Log-mel spectrograms."""

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from src.transforms.features.normalize import normalize
from src.transforms.features.stft import PowerSpectrogram
from src.utils.lengths import valid

GUARD = 2.0**-24  # added before the logarithm


class LogMel(nn.Module):
    """Logarithm of the energy in mel bands.

    With `preemphasis=0.97, symmetric_window=True, whole_hops=True, pad_to=16` it is the front end
    of NVIDIA's NeMo.

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
        preemphasis: float = 0.0,
        symmetric_window: bool = False,
        whole_hops: bool = False,
        pad_to: int = 0,
        key: str = "audio",
        output: str = "spectrogram",
    ):
        super().__init__()
        self.power = PowerSpectrogram(n_fft, window, hop, symmetric_window)
        bands = melscale_fbanks(
            n_fft // 2 + 1, f_min, f_max or sample_rate / 2, n_mels, sample_rate, "slaney", "slaney"
        )
        self.register_buffer("bands", bands.T.contiguous(), persistent=False)
        self.sample_rate, self.n_mels, self.normalization = sample_rate, n_mels, normalization
        self.symmetric_window = symmetric_window
        self.preemphasis, self.dropped, self.pad_to = preemphasis, int(whole_hops), pad_to
        self.key, self.output = key, output

    def output_length(self, samples):
        """Frames of so many samples (an int, array or tensor)."""
        return self.power.output_length(samples) - self.dropped

    @torch.no_grad()
    def forward(self, **batch) -> dict[str, Tensor]:
        """The spectrogram [B, n_mels, frames] and its lengths [B]; zeros beyond them."""
        audio, audio_length = batch[self.key], batch[f"{self.key}_length"]
        with torch.autocast(audio.device.type, enabled=False):
            audio = self.emphasise(audio.float(), audio_length)
            power, length = self.power(audio, audio_length)
            mel = torch.log(self.bands @ power + GUARD)
            length = length - self.dropped
            mask = valid(length, mel.shape[-1]).unsqueeze(1)
            mel = normalize(mel, mask, self.normalization) * mask
        if self.pad_to:
            mel = nn.functional.pad(mel, (0, -mel.shape[-1] % self.pad_to))
        return {self.output: mel, f"{self.output}_length": length}

    def emphasise(self, audio: Tensor, length: Tensor) -> Tensor:
        """Pre-emphasis of each utterance's own samples."""
        if not self.preemphasis:
            return audio
        audio = audio * valid(length, audio.shape[-1])
        before = nn.functional.pad(audio[:, :-1], (1, 0))
        return audio - self.preemphasis * before
