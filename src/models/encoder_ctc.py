"""CTC models on an encoder of spectrograms, and a probe of a frozen one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.conformer import ConformerEncoder
from src.models.jasper import ConvEncoder
from src.models.probes import FrozenEncoder, sum_of_layers
from src.utils.options import check_sizes, check_whole
from src.utils.stages import Stage, framewise


class EncoderCTC(nn.Module):
    """CTC log-probabilities from an encoder and a linear layer.

    Args:
        encoder: encoder of spectrograms, e.g. a FastConformer or a QuartzNet: has `feat_out`, the
            size of its vectors, and `output_length`.
        vocab_size: number of output tokens, including the blank.
        intermediate_layers: blocks of a Conformer, counted from 1, that have CTC outputs in
            training, for the loss `IntermediateCTC`.
        intermediate_vocab_size: number of tokens of these outputs, which then have a linear layer
            of their own; None: they share that of the last block.
        weighted_sum: the head gets a learnt weighted sum of all layers of a Conformer, as in
            `LayerProbe`, instead of the output of the last block; first, all weights are equal.

    Raises:
        ValueError: a layer that the encoder doesn't have, or that has a projection behind it.
    """

    def __init__(
        self,
        encoder: ConformerEncoder | ConvEncoder,
        vocab_size: int,
        intermediate_layers: Sequence[int] = (),
        intermediate_vocab_size: int | None = None,
        weighted_sum: bool = False,
    ):
        super().__init__()
        check_sizes("EncoderCTC", vocab_size=vocab_size)
        self.encoder = encoder
        self.head = nn.Linear(encoder.feat_out, vocab_size)
        self.intermediate_layers = check_layers(encoder, intermediate_layers)
        check_whole("EncoderCTC.intermediate_vocab_size", intermediate_vocab_size, 2, optional=True)
        own = intermediate_layers and intermediate_vocab_size
        size = intermediate_vocab_size or 0
        self.intermediate_head = nn.Linear(encoder.feat_out, size) if own else None
        self.layer_scores: nn.Parameter | None = None
        if weighted_sum:
            layers = checked_conformer(encoder, "weighted_sum").layers
            self.layer_scores = nn.Parameter(torch.zeros(len(layers) + 1))

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
            `log_probs` [B, T', V] in float32 and `log_probs_length` [B], in output frames. With
            intermediate layers, in training also `intermediate_log_probs` [B, K, T', W].
        """
        if self.layer_scores is not None or (self.training and self.intermediate_layers):
            return self.forward_with_layers(spectrogram, spectrogram_length)
        outputs = self.encoder(spectrogram, spectrogram_length)
        log_probs = self.apply_head(outputs["encoded"])
        return {"log_probs": log_probs, "log_probs_length": outputs["encoded_length"]}

    def forward_with_layers(
        self, spectrogram: Tensor, spectrogram_length: Tensor
    ) -> dict[str, Tensor]:
        """The outputs of `forward` from the weighted sum, or with those of intermediate layers."""
        encoder: ConformerEncoder = self.encoder  # type: ignore[assignment]
        x, length = encoder.subsampling(spectrogram, spectrogram_length)
        states = list(encoder.hidden_states(x, length))
        x = states[-1]
        if self.layer_scores is not None:
            x = sum_of_layers(torch.stack(states), self.layer_scores)
        log_probs = F.log_softmax(self.head(x).float(), dim=-1)
        outputs = {"log_probs": log_probs, "log_probs_length": length}
        if self.training and self.intermediate_layers:
            head = self.head if self.intermediate_head is None else self.intermediate_head
            chosen = torch.stack([states[layer] for layer in self.intermediate_layers], dim=1)
            outputs["intermediate_log_probs"] = F.log_softmax(head(chosen).float(), dim=-1)
        return outputs

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
        if self.layer_scores is not None:
            raise ValueError("stream: a weighted sum of layers needs the whole utterance.")
        head = framewise(lambda encoded: self.apply_head(encoded).transpose(1, 2))
        return [*self.encoder.streaming_stages(context), head]


def check_layers(encoder: nn.Module, layers: Sequence[int]) -> list[int]:
    """The intermediate layers of an encoder.

    Raises:
        ValueError: it has no such layers, or projects its output.
    """
    if not layers:
        return []
    last = len(checked_conformer(encoder, "intermediate_layers").layers) - 1
    for layer in layers:
        check_whole("EncoderCTC.intermediate_layers", layer, 1, last)
    return list(layers)


def checked_conformer(encoder: nn.Module, option: str) -> ConformerEncoder:
    """An encoder, the states of whose layers are all like its output.

    Raises:
        ValueError: it has none, or projects its output.
    """
    if not isinstance(encoder, ConformerEncoder) or encoder.out_proj is not None:
        raise ValueError(f"EncoderCTC.{option}: wanted a Conformer encoder without feat_out.")
    return encoder


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
