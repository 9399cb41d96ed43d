"""A Conformer with limited context on a stream, as in cache-aware streaming (arXiv 2312.17279).

Attention is limited to chunks of right + 1 frames and `left` frames before each, convolutions are
causal, so that every block only needs the inputs of its attention and of its depthwise convolution
for a constant number of past frames.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from src.models.layers.conformer.relative_attention import relative_positions
from src.utils.lengths import padding_mask
from src.utils.stages import Cached, State


class StreamingBlocks:
    """The blocks of a Conformer encoder, applied chunk by chunk.

    Args:
        encoder: a `ConformerEncoder` in evaluation mode.
        context: left and right context of attention, in frames.

    Raises:
        ValueError: the encoder, or its attention with this context, needs the whole utterance.
    """

    def __init__(self, encoder: Any, context: tuple[int, int]):
        check_streaming(encoder, context)
        self.encoder, (self.left, right) = encoder, context
        self.chunk = right + 1

    def stage(self) -> Cached:
        """[B, D, T] to [B, feat_out, T]. The caches of L blocks, which a stream keeps, are
        `attention` [L, left, D], of which the last `attention_length` frames are filled, and
        `convolution` [L, K - 1, D].
        """
        layers, d_model = len(self.encoder.layers), self.encoder.d_model
        like = next(self.encoder.parameters())
        kernel_size = self.encoder.layers[0].conv.depthwise_conv.weight.shape[2]
        caches = {
            "attention": like.new_zeros(layers, self.left, d_model),
            "attention_length": torch.zeros((), dtype=torch.int64, device=like.device),
            "convolution": like.new_zeros(layers, kernel_size - 1, d_model),
        }
        return Cached(self.step, caches, self.chunk)

    def step(self, x: Tensor, length: Tensor, caches: State) -> tuple[Tensor, State]:
        """The output for the next chunk.

        Args:
            x: [B, D, T], from the subsampling, at most a chunk.
            length: [B], frames of each stream without padding.
            caches: with a batch axis first.

        Returns:
            [B, feat_out, T] and the new caches.
        """
        encoder = self.encoder
        x = x.transpose(1, 2)
        x = x * math.sqrt(encoder.d_model) if encoder.xscaling else x
        filled, size = caches["attention_length"], x.shape[1]
        pos_emb = relative_positions(size, encoder.d_model, x, self.left)
        padded = padding_mask(length, size)
        empty = ~padding_mask(self.left - filled, self.left)
        attention_mask = torch.cat([empty, padded], 1)[:, None, None, :]
        attention, convolution = [], []
        for number, layer in enumerate(encoder.layers):
            past = caches["attention"][:, number], caches["convolution"][:, number]
            x, *new = layer.step(x, pos_emb, attention_mask, padded.unsqueeze(2), *past)
            x = x if encoder.adapters is None else encoder.adapters(x, number)
            attention.append(new[0])
            convolution.append(new[1])
        x = x if encoder.out_proj is None else encoder.out_proj(x)
        new_caches = {
            "attention": torch.stack(attention, 1),
            "attention_length": (filled + length).clamp(max=self.left),
            "convolution": torch.stack(convolution, 1),
        }
        return x.transpose(1, 2), new_caches


def check_streaming(encoder: Any, context: tuple[int, int]) -> None:
    """Check that an encoder can be applied to a stream with a context of attention.

    Raises:
        ValueError: it can't, or it was trained with other contexts.
    """
    pairs = [list(pair) for pair in encoder.att_context_sizes]
    key = "ConformerEncoder.att_context_size"
    offline = "not one for streams; -cn=asr_finetune_streaming makes such a model of it"
    if tuple(context) not in encoder.att_context_sizes:
        allowed = ", ".join(map(str, pairs))
        raise ValueError(f"stream, context: {list(context)}; the model was trained with {allowed}.")
    left, right = context
    chunked = encoder.att_context_style == "chunked_limited" or right == 0
    if left < 0 or not chunked:
        raise ValueError(
            f"{key}: {list(context)}, {encoder.att_context_style}; {offline} (chunked_limited "
            "attention with a limited left context)."
        )
    conv = encoder.layers[0].conv
    if conv.depthwise_conv.context[1] > 0:
        raise ValueError(
            f"ConformerEncoder.conv_context_size: {list(conv.depthwise_conv.context)}; {offline} "
            "(causal)."
        )
    if isinstance(conv.norm.norm, nn.GroupNorm):
        raise ValueError(
            f"ConformerEncoder.conv_norm_type: group_norm{conv.norm.groups}; {offline} "
            "(layer_norm or batch_norm)."
        )
