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
        preemphasis: share of the sample before that is taken off each sample.
        symmetric_window: whether the Hann window ends as it begins, with 0.
        whole_hops: one frame for each whole hop, without the one around the end of the audio.
        pad_to: the padded time axis becomes a multiple of so many frames; lengths stay.
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
    ):
        super().__init__()
        self.power = PowerSpectrogram(n_fft, window, hop, symmetric_window)
        bands = melscale_fbanks(
            n_fft // 2 + 1, f_min, f_max or sample_rate / 2, n_mels, sample_rate, "slaney", "slaney"
        )
        self.register_buffer("bands", bands.T.contiguous(), persistent=False)
        self.sample_rate, self.n_mels, self.normalization = sample_rate, n_mels, normalization
        self.f_min, self.f_max = f_min, f_max
        self.symmetric_window = symmetric_window
        self.preemphasis, self.dropped, self.pad_to = preemphasis, int(whole_hops), pad_to

    def output_length(self, samples):
        """Frames of so many samples (an int, array or tensor)."""
        return self.power.output_length(samples) - self.dropped

    @torch.no_grad()
    def forward(
        self, audio: Tensor, audio_length: Tensor, noisy_audio: Tensor | None = None, **_
    ) -> dict[str, Tensor]:
        """The spectrogram [B, n_mels, frames] and its lengths [B]; zeros beyond them.

        Args:
            audio: [B, T].
            audio_length: [B].
            noisy_audio: the same with something mixed in, which gives a `noisy_spectrogram`.
        """
        mel, length = self.mel(audio, audio_length)
        found = {"spectrogram": mel, "spectrogram_length": length}
        if noisy_audio is not None:
            noisy = mel if noisy_audio is audio else self.mel(noisy_audio, audio_length)[0]
            found |= {"noisy_spectrogram": noisy, "noisy_spectrogram_length": length}
        return found

    def mel(self, audio: Tensor, audio_length: Tensor) -> tuple[Tensor, Tensor]:
        """The spectrogram and its lengths."""
        with torch.autocast(audio.device.type, enabled=False):
            audio = self.emphasise(audio.float(), audio_length)
            power, length = self.power(audio, audio_length)
            mel = torch.log(self.bands @ power + GUARD)
            length = length - self.dropped
            mask = valid(length, mel.shape[-1]).unsqueeze(1)
            mel = normalize(mel, mask, self.normalization) * mask
        if self.pad_to:
            mel = nn.functional.pad(mel, (0, -mel.shape[-1] % self.pad_to))
        return mel, length

    def emphasise(self, audio: Tensor, length: Tensor) -> Tensor:
        """Pre-emphasis of each utterance's own samples."""
        if not self.preemphasis:
            return audio
        audio = audio * valid(length, audio.shape[-1])
        before = nn.functional.pad(audio[:, :-1], (1, 0))
        return audio - self.preemphasis * before
