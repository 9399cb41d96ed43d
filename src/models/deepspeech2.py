"""Deep Speech 2 (Amodei et al., arXiv 1512.02595)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.layers.deepspeech.lookahead import Lookahead
from src.models.layers.deepspeech.masked_batch_norm import MaskedBatchNorm
from src.models.layers.deepspeech.masked_conv import CLIP, MaskedConv
from src.models.layers.deepspeech.recurrent import Recurrent
from src.utils.lengths import valid

# The paper's stacks of two and three layers; kernels and strides are (frequency, time).
TWO_CONVOLUTIONS = (
    {"channels": 32, "kernel": (41, 11), "stride": (2, 2)},
    {"channels": 32, "kernel": (21, 11), "stride": (2, 1)},
)
THREE_CONVOLUTIONS = (
    *TWO_CONVOLUTIONS,
    {"channels": 96, "kernel": (21, 11), "stride": (2, 1)},
)


class DeepSpeech2(nn.Module):
    """Convolutions over time and frequency, recurrent layers, a linear layer: for CTC.

    Where the paper normalises W h inside a recurrent layer, this model normalises the layer's
    input, as public implementations do: the cells stay the fast ones of torch. The plain cell
    uses ReLU without the paper's clipping.

    Args:
        n_features: bins of the spectrogram.
        n_tokens: of the output, the blank included.
        convolutions: two or three of {channels, kernel, stride}; sizes are (frequency, time).
        cell: rnn, gru or lstm.
        layers: recurrent layers, one to seven.
        width: of their states.
        bidirectional: both directions, added; else one-way with a lookahead convolution.
        lookahead: frames of the future that the one-way model sees (the paper: 80).
        hidden: widths of fully connected layers before the last one.
        dropout: on the input of every recurrent layer but the first.
    """

    def __init__(
        self,
        n_features: int,
        n_tokens: int,
        convolutions: Sequence[dict[str, Any]] = TWO_CONVOLUTIONS,
        cell: str = "lstm",
        layers: int = 5,
        width: int = 1024,
        bidirectional: bool = True,
        lookahead: int = 80,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
    ):
        super().__init__()
        if len(convolutions) not in (2, 3):
            raise ValueError(f"DeepSpeech2: {len(convolutions)} convolutions, not two or three.")
        if not 1 <= layers <= 7:
            raise ValueError(f"DeepSpeech2: {layers} recurrent layers, not one to seven.")
        self.convolutions = nn.ModuleList()
        channels, bins = 1, n_features
        for options in convolutions:
            conv = MaskedConv(channels, **options)
            channels, bins = options["channels"], conv.output_size(bins, axis=0)
            self.convolutions.append(conv)
        sizes = [channels * bins] + [width] * layers
        self.norms = nn.ModuleList(MaskedBatchNorm(size) for size in sizes[1:-1])
        self.recurrent = nn.ModuleList(
            Recurrent(cell, size, width, bidirectional) for size in sizes[:-1]
        )
        self.lookahead = None if bidirectional else Lookahead(width, lookahead)
        sizes = [width, *hidden]
        self.head_norms = nn.ModuleList(MaskedBatchNorm(size) for size in sizes)
        self.head = nn.ModuleList(
            nn.Linear(a, b, bias=False) for a, b in zip(sizes, [*hidden, n_tokens], strict=True)
        )
        self.dropout = dropout

    def output_length(self, frames):
        """Frames that come out for so many going in (an int, array or tensor)."""
        for conv in self.convolutions:
            frames = conv.output_size(frames, axis=1)  # type: ignore[operator]
        return frames

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """`log_probs` [B, T', n_tokens] and `log_probs_length` [B]."""
        x, length = spectrogram.unsqueeze(1), spectrogram_length
        for conv in self.convolutions:
            x, length = conv(x, length)
        x = x.flatten(1, 2).transpose(1, 2)  # [B, T', channels * bins]
        mask = valid(length, x.shape[1]).unsqueeze(2).to(x.dtype)
        x = self.recur(x, length, mask)
        return {"log_probs": self.classify(x, mask), "log_probs_length": length}

    def recur(self, x: Tensor, length: Tensor, mask: Tensor) -> Tensor:
        """The recurrent layers, each but the first behind its norm; [B, T', D] to [B, T', D]."""
        for i, layer in enumerate(self.recurrent):
            if i > 0:
                x = normalize(self.norms[i - 1], x, mask)
                x = F.dropout(x, self.dropout, self.training)
            x = layer(x, length) * mask
        if self.lookahead is not None:
            x = torch.clamp(self.lookahead(x), 0, CLIP) * mask
        return x

    def classify(self, x: Tensor, mask: Tensor) -> Tensor:
        """The fully connected layers; [B, T', D] to log-probabilities [B, T', V] in float32."""
        for i, (norm, linear) in enumerate(zip(self.head_norms, self.head, strict=True)):
            if i > 0:
                x = torch.clamp(x, 0, CLIP) * mask
            x = linear(normalize(norm, x, mask))
        return F.log_softmax(x.float(), dim=-1)


def normalize(norm: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Batch normalisation of features on the last axis: x [B, T, D], mask [B, T, 1]."""
    return norm(x.transpose(1, 2), mask.transpose(1, 2)).transpose(1, 2)
