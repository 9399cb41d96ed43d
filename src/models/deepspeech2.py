"""Deep Speech 2 (Amodei et al., arXiv 1512.02595)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.layers.deepspeech.lookahead import Lookahead
from src.models.layers.deepspeech.masked_batch_norm import MaskedBatchNorm, zero_padding
from src.models.layers.deepspeech.masked_conv import CLIP, MaskedConv
from src.models.layers.deepspeech.recurrent import Recurrent
from src.utils.annotations import check_arguments
from src.utils.lengths import padding_mask
from src.utils.options import check_drop_probabilities, check_sizes, check_whole, refuse
from src.utils.stages import Cached, Sliding, Stage, State, convolutions

# Two and three layers as in the paper; kernel sizes and strides are (frequency, time).
TWO_CONVOLUTIONS = (
    {"out_channels": 32, "kernel_size": (41, 11), "stride": (2, 2)},
    {"out_channels": 32, "kernel_size": (21, 11), "stride": (2, 1)},
)
THREE_CONVOLUTIONS = (
    *TWO_CONVOLUTIONS,
    {"out_channels": 96, "kernel_size": (21, 11), "stride": (2, 1)},
)


class DeepSpeech2(nn.Module):
    """CTC log-probabilities from 2D convolutions, recurrent layers and fully connected layers.

    Batch normalisation is applied to the input of a recurrent layer, as in public implementations,
    which allows torch's RNNs; in the paper it is applied to W h inside the recurrence. The plain
    RNN uses a ReLU without the paper's clipping. Under autocast vectors between layers are float32,
    in which batch normalisation sums its gradients.

    Args:
        feat_in: frequency bins of the spectrogram.
        vocab_size: number of output tokens, including the blank.
        convolutions: two or three of {out_channels, kernel_size, stride}; sizes are
            (frequency, time).
        rnn_type: `rnn`, `gru` or `lstm`.
        num_layers: recurrent layers, 1 to 7.
        hidden_size: size of the state of a recurrent layer.
        bidirectional: add the states of both directions; otherwise unidirectional layers and a
            lookahead convolution.
        lookahead_context: future frames of the lookahead convolution; 80 in the paper.
        head_sizes: sizes of fully connected layers before the output layer.
        dropout: dropout probability of the input of each recurrent layer but the first.

    Raises:
        ValueError: an argument is outside of these values.
    """

    def __init__(
        self,
        feat_in: int,
        vocab_size: int,
        convolutions: Sequence[dict[str, Any]] = TWO_CONVOLUTIONS,
        rnn_type: str = "lstm",
        num_layers: int = 5,
        hidden_size: int = 1024,
        bidirectional: bool = True,
        lookahead_context: int = 80,
        head_sizes: Sequence[int] = (),
        dropout: float = 0.0,
    ):
        super().__init__()
        check_sizes("DeepSpeech2", feat_in=feat_in, vocab_size=vocab_size, hidden_size=hidden_size)
        check_sizes("DeepSpeech2", **{f"head_sizes[{i}]": n for i, n in enumerate(head_sizes)})
        check_sizes("DeepSpeech2", lookahead_context=lookahead_context)
        check_drop_probabilities("DeepSpeech2", dropout=dropout)
        check_whole("DeepSpeech2.num_layers", num_layers, 1, 7)
        if len(convolutions) not in (2, 3):
            raise ValueError(f"DeepSpeech2.convolutions: {len(convolutions)} layers; 2 or 3.")
        self.convolutions = nn.ModuleList()
        channels, bins = 1, feat_in
        for number, options in enumerate(convolutions):
            place = f"DeepSpeech2.convolutions[{number}]"
            check_arguments(place, MaskedConv, {"in_channels": channels, **options})
            conv = MaskedConv(channels, **options)
            channels, bins = options["out_channels"], conv.output_size(bins, axis=0)
            self.convolutions.append(conv)
        sizes = [channels * bins] + [hidden_size] * num_layers
        self.rnn_norms = nn.ModuleList(MaskedBatchNorm(size) for size in sizes[1:-1])
        self.rnns = nn.ModuleList(
            Recurrent(rnn_type, size, hidden_size, bidirectional) for size in sizes[:-1]
        )
        self.lookahead = None if bidirectional else Lookahead(hidden_size, lookahead_context)
        sizes = [hidden_size, *head_sizes]
        self.head_norms = nn.ModuleList(MaskedBatchNorm(size) for size in sizes)
        self.head = nn.ModuleList(
            nn.Linear(before, after, bias=False)
            for before, after in zip(sizes, [*head_sizes, vocab_size], strict=True)
        )
        self.dropout = dropout

    def output_length(self, frames):
        """Number of output frames for a number of input frames (int, array or tensor)."""
        for conv in self.convolutions:
            frames = conv.output_size(frames, axis=1)  # type: ignore[operator]
        return frames

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """Compute CTC log-probabilities.

        Args:
            spectrogram: [B, F, T], zero beyond the end of each utterance.
            spectrogram_length: [B], frames of each utterance without padding.

        Returns:
            `log_probs` [B, T', V] in float32 and `log_probs_length` [B], in output frames.
        """
        x, length = self.convolve(spectrogram, spectrogram_length)
        x = x.transpose(1, 2)
        padded = padding_mask(length, x.shape[1]).unsqueeze(2)
        x = self.apply_rnns(x, length, padded)
        return {"log_probs": self.apply_head(x, padded), "log_probs_length": length}

    def convolve(self, spectrogram: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the convolutions.

        Args:
            spectrogram: [B, F, T], zero beyond the end of each utterance.
            length: [B], frames of each utterance without padding.

        Returns:
            [B, channels * bins, T'] and lengths [B] in output frames.
        """
        x = spectrogram.unsqueeze(1)
        for conv in self.convolutions:
            x, length = conv(x, length)
        return x.flatten(1, 2), length

    def apply_rnns(self, x: Tensor, length: Tensor, padding_mask: Tensor) -> Tensor:
        """Apply the recurrent layers, all but the first after batch normalisation and dropout.

        Args:
            x: [B, T', channels * bins].
            length: [B], frames of each utterance without padding.
            padding_mask: [B, T', 1], True beyond the end.

        Returns:
            [B, T', hidden_size].
        """
        for i, rnn in enumerate(self.rnns):
            if i > 0:
                x = normalize(self.rnn_norms[i - 1], x, padding_mask)
                x = F.dropout(x, self.dropout, self.training)
            x = zero_padding(rnn(x, length).float(), padding_mask)
        return x

    def apply_head(self, x: Tensor, padding_mask: Tensor) -> Tensor:
        """Apply the lookahead convolution of a unidirectional model, and the fully connected
        layers, each after batch normalisation.

        Args:
            x: [B, T', hidden_size], zero where padding_mask is True.
            padding_mask: [B, T', 1], True beyond the end.

        Returns:
            Log-probabilities [B, T', V] in float32.
        """
        return self.apply_linear(x if self.lookahead is None else self.lookahead(x), padding_mask)

    def apply_linear(self, x: Tensor, padding_mask: Tensor) -> Tensor:
        """Apply the fully connected layers, each after batch normalisation.

        Args:
            x: [B, T', hidden_size], of the recurrent layers or the lookahead convolution.
            padding_mask: [B, T', 1], True beyond the end.

        Returns:
            Log-probabilities [B, T', V] in float32.
        """
        for i, (norm, linear) in enumerate(zip(self.head_norms, self.head, strict=True)):
            if i > 0 or self.lookahead is not None:
                x = zero_padding(torch.clamp(x, 0.0, CLIP).float(), padding_mask)
            x = linear(normalize(norm, x, padding_mask))
        return F.log_softmax(x.float(), dim=-1)

    # Streams --------------------------------------------------------------------------------

    def streaming_stages(self, context: tuple[int, int] | None = None) -> list[Stage]:
        """The model for streams: [B, F, T] to log-probabilities [B, V, T'].

        Args:
            context: None; the look-ahead is part of the model.

        Raises:
            ValueError: the model is bidirectional, or a context is given.
        """
        lookahead = self.lookahead
        if lookahead is None:
            raise ValueError("DeepSpeech2.bidirectional: True; a stream needs false.")
        if context is not None:
            refuse("stream, context", context, "none for DeepSpeech2, see lookahead_context")
        kernels: list[Any] = [conv.conv for conv in self.convolutions]
        layers = [(conv.kernel_size[1], conv.stride[1], conv.padding[1]) for conv in kernels]
        like = next(self.parameters())
        recurrent: list[Any] = list(self.rnns)
        state = like.new_zeros(len(recurrent), *recurrent[0].state_size)
        return [
            Sliding(self.convolve, **convolutions(layers)),
            Cached(self.recurrent_step, {"recurrent": state}),
            Sliding(self.head_step, right=lookahead.context),
        ]

    def recurrent_step(self, x: Tensor, length: Tensor, caches: State) -> tuple[Tensor, State]:
        """Apply the recurrent layers to the next frames of streams, in evaluation mode.

        Args:
            x: [B, channels * bins, T'].
            length: [B], T' for each stream.
            caches: `recurrent`, the states after the frames before.

        Returns:
            [B, hidden_size, T'] and the new states.
        """
        x, states = x.transpose(1, 2), []
        padded = padding_mask(length, x.shape[1]).unsqueeze(2)
        for i, rnn in enumerate(self.rnns):
            x = x if i == 0 else normalize(self.rnn_norms[i - 1], x, padded)
            x, state = rnn.step(x, caches["recurrent"][:, i])  # type: ignore[operator]
            states.append(state)
        return x.transpose(1, 2), {"recurrent": torch.stack(states, 1)}

    def head_step(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """`apply_head` to a piece of a stream: [B, hidden_size, T'] to [B, V, T'].

        Args:
            x: zero beyond the end of each piece.
            length: [B], frames of each piece.
        """
        padded = padding_mask(length, x.shape[2]).unsqueeze(2)
        return self.apply_head(x.transpose(1, 2), padded).transpose(1, 2), length


def normalize(norm: nn.Module, x: Tensor, padding_mask: Tensor) -> Tensor:
    """Apply a MaskedBatchNorm to the last axis of x [B, T, D]; padding_mask is [B, T, 1]."""
    return norm(x.transpose(1, 2), padding_mask.transpose(1, 2)).transpose(1, 2)
