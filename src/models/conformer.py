"""FastConformer encoder (Rekesh et al., arXiv 2305.05084)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.layers.conformer.adapter import Adapters
from src.models.layers.conformer.conformer_layer import ConformerLayer
from src.models.layers.conformer.relative_attention import (
    check_att_context,
    make_attention_mask,
    relative_positions,
)
from src.models.layers.conformer.streaming import StreamingBlocks
from src.models.layers.conformer.subsampling import Subsampling
from src.models.ops.dropout import dropout
from src.utils.annotations import fits
from src.utils.lengths import padding_mask
from src.utils.options import (
    check_choice,
    check_drop_probabilities,
    check_sizes,
    check_whole,
    shown,
)
from src.utils.stages import Stage


class ConformerEncoder(nn.Module):
    """Encoder of spectrograms: convolutional subsampling and a stack of Conformer blocks.

    Parameters are those of NeMo's ConformerEncoder, apart from `num_layers` (n_layers),
    `num_heads` (n_heads) and `ff_expansion` (ff_expansion_factor).

    Args:
        feat_in: frequency bins of the spectrogram.
        num_layers: number of Conformer blocks.
        d_model: size of the vectors; even, and a multiple of num_heads.
        num_heads: attention heads.
        ff_expansion: size of the feed-forward hidden layer, as a multiple of d_model.
        conv_kernel_size: of the depthwise convolutions, in frames, odd.
        conv_norm_type: norm of the convolution modules: `batch_norm`, `layer_norm` or
            `group_norm<N>`.
        use_bias: whether linear layers and convolutions of the blocks have a bias; layer norms and
            subsampling always have one.
        subsampling: `dw_striding`, depthwise-separable convolutions (FastConformer), or `striding`,
            full ones (Conformer).
        subsampling_factor: input frames for one output frame, 8 or 4.
        subsampling_conv_channels: channels of the subsampling convolutions.
        causal_downsampling: pad the subsampling convolutions with two zeros before and one after.
        att_context_size: left and right context of attention in frames, -1 for unlimited; or a list
            of such pairs, of which training draws one for each batch and evaluation uses the first.
        att_context_probs: probability of each pair of the list; None for equal ones.
        att_context_style: `regular`, where the context is relative to each frame, or
            `chunked_limited`, where frames attend within chunks of right + 1 frames and to the
            chunks before.
        conv_context_size: left and right context of the depthwise convolutions in frames, or
            `causal` for no right context; None for a symmetric one.
        xscaling: multiply the subsampled vectors by sqrt(d_model).
        untie_biases: each block has its own attention biases u and v; otherwise all share them.
        feat_out: size of an output projection; None for no projection.
        dropout: dropout probability in the feed-forward modules and of each residual branch.
        dropout_pre_encoder: dropout probability of the subsampled vectors.
        dropout_emb: dropout probability of the positional encoding.
        dropout_att: dropout probability of the attention weights.
        stochastic_depth_drop_prob: probability of dropping a block in training (arXiv 1603.09382),
            from 0 to less than 1.
        stochastic_depth_mode: `linear`, increasing to stochastic_depth_drop_prob at the last block,
            or `uniform`.
        stochastic_depth_start_layer: number of the first blocks that are never dropped, from 1.
        adapters: name -> options of `LinearAdapter` (dim, norm_position, dropout) and `enabled`
            (true): modules added to the output of every block, e.g. to be trained alone.

    Raises:
        ValueError: a parameter is outside of these values.
    """

    def __init__(
        self,
        feat_in: int = 80,
        num_layers: int = 17,
        d_model: int = 512,
        num_heads: int = 8,
        ff_expansion: int = 4,
        conv_kernel_size: int = 9,
        conv_norm_type: str = "batch_norm",
        use_bias: bool = True,
        subsampling: str = "dw_striding",
        subsampling_factor: int = 8,
        subsampling_conv_channels: int = 256,
        causal_downsampling: bool = False,
        att_context_size: Sequence[Any] = (-1, -1),
        att_context_probs: Sequence[float] | None = None,
        att_context_style: str = "regular",
        conv_context_size: Sequence[int] | str | None = None,
        xscaling: bool = True,
        untie_biases: bool = True,
        feat_out: int | None = None,
        dropout: float = 0.1,
        dropout_pre_encoder: float = 0.1,
        dropout_emb: float = 0.0,
        dropout_att: float = 0.1,
        stochastic_depth_drop_prob: float = 0.0,
        stochastic_depth_mode: str = "linear",
        stochastic_depth_start_layer: int = 1,
        adapters: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        options = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        self.options = options  # as given, for the configs of exported checkpoints
        check_sizes(
            "ConformerEncoder",
            feat_in=feat_in,
            num_layers=num_layers,
            d_model=d_model,
            num_heads=num_heads,
            ff_expansion=ff_expansion,
            conv_kernel_size=conv_kernel_size,
            subsampling_conv_channels=subsampling_conv_channels,
        )
        check_drop_probabilities(
            "ConformerEncoder",
            dropout=dropout,
            dropout_pre_encoder=dropout_pre_encoder,
            dropout_emb=dropout_emb,
            dropout_att=dropout_att,
            stochastic_depth_drop_prob=stochastic_depth_drop_prob,
        )
        if d_model % num_heads or d_model % 2:
            raise ValueError(
                f"ConformerEncoder.d_model: {d_model} with {num_heads} heads; an even number and a "
                "multiple of num_heads."
            )
        self.feat_in, self.d_model, self.xscaling = feat_in, d_model, xscaling
        self.dropout_pre_encoder, self.dropout_emb = dropout_pre_encoder, dropout_emb
        self.att_context_sizes = as_pairs(att_context_size)
        self.att_context_probs = check_probs(att_context_probs, len(self.att_context_sizes))
        self.att_context_style = att_context_style
        for pair in self.att_context_sizes:
            check_att_context(pair, att_context_style)
        self.drop_probs = stochastic_depth_probs(
            num_layers,
            stochastic_depth_drop_prob,
            stochastic_depth_mode,
            stochastic_depth_start_layer,
        )
        check_choice("ConformerEncoder.subsampling", subsampling, ("dw_striding", "striding"))
        self.subsampling = Subsampling(
            feat_in,
            d_model,
            subsampling_conv_channels,
            subsampling_factor,
            causal_downsampling,
            separable=subsampling == "dw_striding",
        )
        conv_context = as_conv_context(conv_context_size, conv_kernel_size)
        self.layers = nn.ModuleList(
            ConformerLayer(
                d_model,
                num_heads,
                ff_expansion * d_model,
                conv_kernel_size,
                conv_context,
                conv_norm_type,
                use_bias,
                dropout,
                dropout_att,
            )
            for _ in range(num_layers)
        )
        if not untie_biases:
            tie_biases(self.layers)
        self.adapters = Adapters(d_model, num_layers, adapters) if adapters else None
        self.out_proj = nn.Linear(d_model, feat_out) if feat_out and feat_out != d_model else None
        self.feat_out = feat_out or d_model

    def output_length(self, frames):
        """Number of output frames for a number of input frames (int, array or tensor)."""
        return self.subsampling.output_length(frames)

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """Encode spectrograms.

        Args:
            spectrogram: [B, F, T].
            spectrogram_length: [B], frames of each utterance without padding.

        Returns:
            `encoded` [B, D, T'] and `encoded_length` [B], in output frames.
        """
        x, length = self.subsampling(spectrogram, spectrogram_length)
        return {"encoded": self.encode(x, length).transpose(1, 2), "encoded_length": length}

    def encode(self, x: Tensor, length: Tensor) -> Tensor:
        """Apply the Conformer blocks and the output projection to subsampled vectors.

        Args:
            x: [B, T', D], from `subsampling`.
            length: [B], vectors of each utterance without padding.

        Returns:
            [B, T', feat_out].
        """
        for state in self.hidden_states(x, length):
            x = state
        return x if self.out_proj is None else self.out_proj(x)

    def all_hidden_states(
        self, spectrogram: Tensor, spectrogram_length: Tensor, **_
    ) -> tuple[Tensor, Tensor]:
        """Stack the input of the first block and the output of every block.

        Args:
            spectrogram: [B, F, T].
            spectrogram_length: [B], frames of each utterance without padding.

        Returns:
            Hidden states [num_layers + 1, B, T', D], and their lengths [B].
        """
        x, length = self.subsampling(spectrogram, spectrogram_length)
        return torch.stack(list(self.hidden_states(x, length))), length

    def hidden_states(self, x: Tensor, length: Tensor) -> Iterator[Tensor]:
        """Iterate over the input of the first block and the output of every block.

        Args:
            x: [B, T', D], from `subsampling`.
            length: [B], vectors of each utterance without padding.

        Yields:
            num_layers + 1 tensors [B, T', D].
        """
        size = x.shape[1]
        x = x * math.sqrt(self.d_model) if self.xscaling else x
        x = dropout(x, self.dropout_pre_encoder, self.training)
        pos_emb = relative_positions(size, self.d_model, x)
        pos_emb = dropout(pos_emb, self.dropout_emb, self.training)
        context = self.draw_att_context()
        attention_mask = make_attention_mask(length, size, context, self.att_context_style)
        padded = padding_mask(length, size).unsqueeze(2)
        yield x
        for number, layer in enumerate(self.layers):
            y = layer(x, pos_emb, attention_mask, padded)
            y = y if self.adapters is None else self.adapters(y, number)
            drop_prob = self.drop_probs[number]
            x = stochastic_depth(x, y, drop_prob) if self.training and drop_prob else y
            yield x

    def streaming_stages(self, context: tuple[int, int] | None = None) -> list[Stage]:
        """The encoder for streams: [B, F, T] to [B, feat_out, T'].

        Args:
            context: one of `att_context_size`; None: the first.

        Raises:
            ValueError: the encoder or its attention needs the whole utterance, or it was trained
                with other contexts.
        """
        blocks = StreamingBlocks(self, context or self.att_context_sizes[0])
        return [self.subsampling.streaming_stage(), blocks.stage()]

    def draw_att_context(self) -> tuple[int, int]:
        """Left and right context of attention for a batch: a random pair in training."""
        if not self.training or len(self.att_context_sizes) == 1:
            return self.att_context_sizes[0]
        probs = torch.tensor(self.att_context_probs)
        return self.att_context_sizes[int(torch.multinomial(probs, 1))]


def stochastic_depth(x: Tensor, y: Tensor, drop_prob: float) -> Tensor:
    """Stochastic depth (arXiv 1603.09382): drop a block's residual y - x at random, or scale it up.

    The parameters of a dropped block have a gradient of zero rather than none, which distributed
    training needs.

    Args:
        x: input of the block.
        y: output of the block.
        drop_prob: probability of dropping.

    Returns:
        x, or x + (y - x) / (1 - drop_prob); the expected value is y.
    """
    keep = float(torch.rand(()) >= drop_prob)
    return x + (y - x) * (keep / (1 - drop_prob))


def as_pairs(att_context_size: Sequence[Any]) -> list[tuple[int, int]]:
    """List of (left, right) from one pair or from a list of pairs.

    Raises:
        ValueError: it is neither.
    """
    single = len(att_context_size) > 0 and not isinstance(att_context_size[0], Sequence)
    pairs = [att_context_size] if single else att_context_size
    if not pairs or not all(fits(pair, tuple[int, int]) for pair in pairs):
        raise ValueError(
            f"ConformerEncoder.att_context_size: {shown(att_context_size)}; [left, right] in "
            "frames, or a list of such pairs."
        )
    return [(int(left), int(right)) for left, right in pairs]


def check_probs(att_context_probs: Sequence[float] | None, number: int) -> list[float]:
    """One probability for each attention context; equal ones for None.

    Raises:
        ValueError: there are more or fewer than contexts, or their sum is not 1.
    """
    if att_context_probs is None:
        return [1 / number] * number
    if len(att_context_probs) != number or abs(sum(att_context_probs) - 1) > 1e-6:
        raise ValueError(
            f"ConformerEncoder.att_context_probs: {list(att_context_probs)}; one for each of "
            f"{number} contexts, with the sum 1."
        )
    return [float(p) for p in att_context_probs]


def as_conv_context(
    conv_context_size: Sequence[int] | str | None, kernel_size: int
) -> tuple[int, int]:
    """Left and right context of a depthwise convolution, in frames.

    Raises:
        ValueError: they do not add up to kernel_size - 1.
    """
    size = conv_context_size
    if size is None:
        size = ((kernel_size - 1) // 2, kernel_size - 1 - (kernel_size - 1) // 2)
    elif size == "causal":
        size = (kernel_size - 1, 0)
    if isinstance(size, str) or len(size) != 2 or min(size) < 0 or sum(size) != kernel_size - 1:
        raise ValueError(
            f"ConformerEncoder.conv_context_size: {conv_context_size}; 'causal', or left and right "
            f"frames that add up to {kernel_size - 1}."
        )
    return int(size[0]), int(size[1])


def stochastic_depth_probs(
    num_layers: int, drop_prob: float, mode: str, start_layer: int
) -> list[float]:
    """Probability of dropping each block.

    Raises:
        ValueError: the mode is unknown, or the first layer out of range.
    """
    check_choice("ConformerEncoder.stochastic_depth_mode", mode, ("linear", "uniform"))
    check_whole("ConformerEncoder.stochastic_depth_start_layer", start_layer, 1, num_layers)
    later = num_layers - start_layer
    factors = [i / later if mode == "linear" else 1.0 for i in range(1, later + 1)]
    return [0.0] * start_layer + [drop_prob * factor for factor in factors]


def tie_biases(layers: nn.ModuleList) -> None:
    """Share the first block's attention biases u and v with all blocks."""
    attentions: list[Any] = [layer.self_attn for layer in layers]
    for attention in attentions:
        attention.pos_bias_u = attentions[0].pos_bias_u
        attention.pos_bias_v = attentions[0].pos_bias_v
