"""Mel-frequency cepstral coefficients (Davis and Mermelstein, 1980)."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torchaudio.functional import create_dct

from src.transforms.features.log_mel import LogMel
from src.transforms.features.normalize import NORMALIZATIONS, check_streaming, normalize
from src.utils.lengths import padding_mask
from src.utils.options import check_choice, check_whole
from src.utils.stages import Sliding


class MFCC(nn.Module):
    """The first coefficients of the discrete cosine transform of a log-mel spectrogram.

    Args:
        n_mfcc: number of coefficients, at most `n_mels`.
        normalization: of the coefficients: `per_feature`, `all_features` or `none`.
        log_mel: further arguments of `LogMel`, except its normalization.

    Raises:
        ValueError: an argument is out of range.
    """

    dct: Tensor

    def __init__(self, n_mfcc: int = 40, normalization: str = "per_feature", **log_mel):
        super().__init__()
        check_choice("features, normalization", normalization, NORMALIZATIONS)
        self.log_mel = LogMel(**log_mel, normalization="none")
        n_mels = self.log_mel.n_mels
        check_whole("features, n_mfcc", n_mfcc, high=n_mels)
        dct = create_dct(n_mfcc, n_mels, "ortho").T.contiguous()
        self.register_buffer("dct", dct, persistent=False)
        self.normalization = normalization

    def output_length(self, samples):
        """Number of frames for a number of samples (int, array or tensor)."""
        return self.log_mel.output_length(samples)

    def streaming_stage(self) -> Sliding:
        """Coefficients of a stream: [B, T] to [B, n_mfcc, frames].

        Raises:
            ValueError: the normalisation needs the whole utterance.
        """
        check_streaming(self.normalization)
        return self.log_mel.power.streaming_stage(self.mfcc)

    def forward(
        self, audio: Float[Tensor, "B T"], audio_length: Int[Tensor, " B"], **_
    ) -> dict[str, Tensor]:
        """`spectrogram` [B, n_mfcc, frames], zero beyond `spectrogram_length` [B]."""
        mfcc, length = self.mfcc(audio, audio_length)
        return {"spectrogram": mfcc, "spectrogram_length": length}

    def mfcc(self, audio: Tensor, audio_length: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients [B, n_mfcc, frames] and their lengths [B] in frames.

        Args:
            audio: [B, T].
            audio_length: [B], in samples.
        """
        mel, length = self.log_mel.log_mel(audio, audio_length)
        mask = ~padding_mask(length, mel.shape[-1]).unsqueeze(1)
        return normalize(self.dct @ mel, mask, self.normalization) * mask, length
