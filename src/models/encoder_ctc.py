"""CTC models on an encoder of spectrograms, and a probe of a frozen one."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.conformer import ConformerEncoder
from src.models.jasper import ConvEncoder
from src.models.probes import FrozenEncoder
from src.utils.options import check_sizes
from src.utils.stages import Stage, framewise


class EncoderCTC(nn.Module):
    """CTC log-probabilities from an encoder and a linear layer.

    Args:
        encoder: encoder of spectrograms, e.g. a FastConformer or a QuartzNet: has `feat_out`, the
            size of its vectors, and `output_length`.
        vocab_size: number of output tokens, including the blank.
    """

    def __init__(self, encoder: ConformerEncoder | ConvEncoder, vocab_size: int):
        super().__init__()
        check_sizes("EncoderCTC", vocab_size=vocab_size)
        self.encoder = encoder
        self.head = nn.Linear(encoder.feat_out, vocab_size)

    def output_length(self, frames):
        """Number of output frames for a number of input frames (int, array or tensor)."""
        return self.encoder.output_length(frames)

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """Compute CTC log-probabilities.

        Args:
            spectrogram: [B, F, T].
            spectrogram_length: [B], frames of each utterance without padding.

        Returns:
            `log_probs` [B, T', V] in float32 and `log_probs_length` [B], in output frames.
        """
        outputs = self.encoder(spectrogram, spectrogram_length)
        log_probs = self.apply_head(outputs["encoded"])
        return {"log_probs": log_probs, "log_probs_length": outputs["encoded_length"]}

    def apply_head(self, encoded: Tensor) -> Tensor:
        """Log-probabilities [B, T', V] in float32 of encoded frames [B, D, T']."""
        return F.log_softmax(self.head(encoded.transpose(1, 2)).float(), dim=-1)

    def streaming_stages(self, context: tuple[int, int] | None = None) -> list[Stage]:
        """The model for streams: [B, F, T] to log-probabilities [B, V, T'].

        Args:
            context: left and right context of attention in frames, one that the encoder was
                trained with; None: the first.

        Raises:
            ValueError: the encoder needs the whole utterance, or another context.
        """
        if not isinstance(self.encoder, ConformerEncoder):
            raise ValueError(f"stream: {type(self.encoder).__name__} needs the whole utterance.")
        head = framewise(lambda encoded: self.apply_head(encoded).transpose(1, 2))
        return [*self.encoder.streaming_stages(context), head]


class LayerProbe(FrozenEncoder):
    """CTC log-probabilities from a learnt weighted sum of a frozen encoder's layers.

    Args:
        encoder: encoder of spectrograms; its parameters are frozen, and it is always in evaluation
            mode.
        vocab_size: number of output tokens, including the blank.
    """

    def __init__(self, encoder: ConformerEncoder | ConvEncoder, vocab_size: int):
        super().__init__(encoder)
        check_sizes("LayerProbe", vocab_size=vocab_size)
        self.head = nn.Linear(self.size, vocab_size)

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """Compute CTC log-probabilities.

        Args:
            spectrogram: [B, F, T].
            spectrogram_length: [B], frames of each utterance without padding.

        Returns:
            `log_probs` [B, T', V] in float32 and `log_probs_length` [B], in output frames.
        """
        mixed, length = self.mixed_states(spectrogram, spectrogram_length)
        log_probs = F.log_softmax(self.head(mixed).float(), dim=-1)
        return {"log_probs": log_probs, "log_probs_length": length}
