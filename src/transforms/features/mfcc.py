"""Mel-frequency cepstral coefficients (Davis and Mermelstein, 1980)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchaudio.functional import create_dct

from src.transforms.features.log_mel import LogMel
from src.transforms.features.normalize import normalize
from src.utils.lengths import valid


class MFCC(nn.Module):
    """The first coefficients of the cosine transform of a log-mel spectrogram.

    Args:
        n_mfcc: coefficients.
        normalization: `bands`, `utterance` or `none`, of the coefficients.
        log_mel: further arguments of `LogMel`.
    """

    dct: Tensor

    def __init__(self, n_mfcc: int = 40, normalization: str = "bands", **log_mel):
        super().__init__()
        self.log_mel = LogMel(**log_mel, normalization="none")
        n_mels = self.log_mel.n_mels
        if n_mfcc > n_mels:
            raise ValueError(f"features: {n_mfcc} coefficients of only {n_mels} bands.")
        dct = create_dct(n_mfcc, n_mels, "ortho").T.contiguous()
        self.register_buffer("dct", dct, persistent=False)
        self.normalization = normalization

    def output_length(self, samples):
        """Frames of so many samples (an int, array or tensor)."""
        return self.log_mel.output_length(samples)

    @torch.no_grad()
    def forward(
        self, audio: Float[Tensor, "B T"], audio_length: Int[Tensor, " B"], **_
    ) -> dict[str, Tensor]:
        """`spectrogram` [B, n_mfcc, frames] and its lengths; zeros beyond them."""
        found = self.log_mel(audio=audio, audio_length=audio_length)
        length = found["spectrogram_length"]
        mask = valid(length, found["spectrogram"].shape[-1]).unsqueeze(1)
        mfcc = normalize(self.dct @ found["spectrogram"], mask, self.normalization)
        return {"spectrogram": mfcc * mask, "spectrogram_length": length}
