"""FastConformer (Rekesh et al., arXiv 2305.05084): a Conformer on strongly shortened time."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.layers.conformer.conformer_layer import ConformerLayer
from src.models.layers.conformer.relative_attention import (
    check_context,
    forbidden_pairs,
    position_table,
)
from src.models.layers.conformer.subsampling import Subsampling
from src.models.ops.dropout import dropout
from src.utils.lengths import valid


class ConformerEncoder(nn.Module):
    """Spectrograms to one vector a frame.

    Args:
        n_features: bins of the spectrogram.
        layers: their number.
        width: of the vectors.
        heads: of the attention.
        expansion: width inside the feed-forward modules, in widths.
        kernel: of the convolutions, in frames, odd.
        norm: of the convolutions: batch_norm, layer_norm or group_norm<N>.
        bias: of linear maps and convolutions (norms and subsampling have one anyway).
        subsampling: frames that become one, 8 or 4.
        subsampling_channels: of its convolutions.
        causal_subsampling: see `Subsampling`.
        contexts: frames of past and future that attention sees, -1 for all; or a list of such
            pairs, of which training draws one a batch and evaluation takes the first.
        context_probabilities: of each pair of the list; None: all alike.
        context_style: regular or chunked_limited, see `forbidden_pairs`.
        conv_context: frames of past and future that a convolution sees, `causal` for none of the
            future; None: as many of both.
        scale_input: multiply the subsampled vectors by sqrt(width).
        untie_biases: each layer has its own u and w of the attention, or all share them.
        output: width of a last linear map; None: no such map.
        dropout: see `ConformerLayer`.
        dropout_input: on the subsampled vectors.
        dropout_positions: on the position table.
        dropout_attention: on the attention's weights.
        layer_drop: probability that training passes over a layer (stochastic depth, arXiv
            1603.09382).
        layer_drop_mode: `linear`, growing to layer_drop at the last layer, or `uniform`.
        layer_drop_start: layers at the beginning that are always there.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        n_features: int = 80,
        layers: int = 17,
        width: int = 512,
        heads: int = 8,
        expansion: int = 4,
        kernel: int = 9,
        norm: str = "batch_norm",
        bias: bool = True,
        subsampling: int = 8,
        subsampling_channels: int = 256,
        causal_subsampling: bool = False,
        contexts: Sequence[Any] = (-1, -1),
        context_probabilities: Sequence[float] | None = None,
        context_style: str = "regular",
        conv_context: Sequence[int] | str | None = None,
        scale_input: bool = True,
        untie_biases: bool = True,
        output: int | None = None,
        dropout: float = 0.1,
        dropout_input: float = 0.1,
        dropout_positions: float = 0.0,
        dropout_attention: float = 0.1,
        layer_drop: float = 0.0,
        layer_drop_mode: str = "linear",
        layer_drop_start: int = 1,
    ):
        options = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        self.options = options  # as given, to be written into the configs of other projects
        if width % heads or width % 2:
            raise ValueError(f"ConformerEncoder: {heads} heads don't divide a width of {width}.")
        self.n_features, self.width, self.scale_input = n_features, width, scale_input
        self.dropout_input, self.dropout_positions = dropout_input, dropout_positions
        self.contexts = as_contexts(contexts)
        self.context_probabilities = check_probabilities(context_probabilities, self.contexts)
        self.context_style = context_style
        for context in self.contexts:
            check_context(context, context_style)
        self.layer_drop = drop_rates(layers, layer_drop, layer_drop_mode, layer_drop_start)
        self.subsampling = Subsampling(
            n_features, width, subsampling_channels, subsampling, causal_subsampling
        )
        conv_padding = as_padding(conv_context, kernel)
        self.layers = nn.ModuleList(
            ConformerLayer(
                width,
                heads,
                expansion * width,
                kernel,
                conv_padding,
                norm,
                bias,
                dropout,
                dropout_attention,
            )
            for _ in range(layers)
        )
        if not untie_biases:
            share_biases(self.layers)
        self.output = nn.Linear(width, output) if output and output != width else None
        self.output_width = output or width

    def output_length(self, frames):
        """Frames that come out for so many going in (an int, array or tensor)."""
        return self.subsampling.output_length(frames)

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """`encoded` [B, D, T'] and `encoded_length` [B]."""
        x, length = self.subsampling(spectrogram, spectrogram_length)
        return {"encoded": self.encode(x, length).transpose(1, 2), "encoded_length": length}

    def encode(self, x: Tensor, length: Tensor) -> Tensor:
        """Subsampled vectors [B, T', D] to encoded ones."""
        for state in self.states(x, length):
            x = state
        return x if self.output is None else self.output(x)

    def states(self, x: Tensor, length: Tensor) -> Iterator[Tensor]:
        """What goes into the first layer, and what comes out of each: layers + 1 of [B, T', D]."""
        size = x.shape[1]
        x = x * math.sqrt(self.width) if self.scale_input else x
        x = dropout(x, self.dropout_input, self.training)
        positions = position_table(size, self.width, x)
        positions = dropout(positions, self.dropout_positions, self.training)
        forbidden = forbidden_pairs(length, size, self.draw_context(), self.context_style)
        padding = ~valid(length, size).unsqueeze(2)
        yield x
        for layer, rate in zip(self.layers, self.layer_drop, strict=True):
            new = layer(x, positions, forbidden, padding)
            x = self.keep_or_drop(x, new, rate) if self.training and rate else new
            yield x

    def keep_or_drop(self, old: Tensor, new: Tensor, rate: float) -> Tensor:
        """Stochastic depth: the layer's change is left out, or made larger to keep its mean.

        A layer that is left out keeps a gradient of zero, which several processes need.
        """
        kept = float(torch.rand(()) >= rate)
        return old + (new - old) * (kept / (1 - rate))

    def draw_context(self) -> tuple[int, int]:
        """Past and future of this batch."""
        if not self.training or len(self.contexts) == 1:
            return self.contexts[0]
        chances = torch.tensor(self.context_probabilities)
        return self.contexts[int(torch.multinomial(chances, 1))]


def as_contexts(contexts: Sequence[Any]) -> list[tuple[int, int]]:
    """One pair or a list of pairs, as a list."""
    pairs = [contexts] if isinstance(contexts[0], int) else contexts
    return [(int(left), int(right)) for left, right in pairs]


def check_probabilities(
    probabilities: Sequence[float] | None, contexts: list[tuple[int, int]]
) -> list[float]:
    """One probability for each context."""
    if probabilities is None:
        return [1 / len(contexts)] * len(contexts)
    if len(probabilities) != len(contexts) or abs(sum(probabilities) - 1) > 1e-6:
        raise ValueError(
            f"ConformerEncoder: context_probabilities {list(probabilities)}; one for each of "
            f"{len(contexts)} contexts, with the sum 1."
        )
    return [float(p) for p in probabilities]


def as_padding(context: Sequence[int] | str | None, kernel: int) -> tuple[int, int]:
    """Zeros before and after a convolution.

    Raises:
        ValueError: they don't fit the kernel.
    """
    if context is None:
        context = ((kernel - 1) // 2, kernel - 1 - (kernel - 1) // 2)
    elif context == "causal":
        context = (kernel - 1, 0)
    if isinstance(context, str) or len(context) != 2 or sum(context) != kernel - 1:
        raise ValueError(
            f"ConformerEncoder: conv_context {context}; 'causal', or frames of past and future "
            f"that add up to {kernel - 1}."
        )
    return int(context[0]), int(context[1])


def drop_rates(layers: int, rate: float, mode: str, start: int) -> list[float]:
    """For each layer the probability of being passed over.

    Raises:
        ValueError: an argument makes no sense.
    """
    if not 0 <= rate < 1 or mode not in ("linear", "uniform") or not 1 <= start <= layers:
        raise ValueError(
            f"ConformerEncoder: layer_drop {rate} from layer {start}, {mode}; a probability below "
            f"1, linear or uniform, from layer 1 to {layers}."
        )
    later = layers - start
    steps = [i / later if mode == "linear" else 1.0 for i in range(1, later + 1)]
    return [0.0] * start + [rate * step for step in steps]


def share_biases(layers: nn.ModuleList) -> None:
    """Let all layers have the first one's u and w."""
    attentions: list[Any] = [layer.attention for layer in layers]
    for attention in attentions:
        attention.content_bias = attentions[0].content_bias
        attention.position_bias = attentions[0].position_bias
