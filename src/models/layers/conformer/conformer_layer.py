"""Conformer block (Gulati et al., arXiv 2005.08100, section 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.layers.batch_norm import BatchNorm
from src.models.layers.conformer.relative_attention import RelPositionMultiHeadAttention
from src.models.ops.depthwise_conv import DepthwiseConv
from src.models.ops.dropout import dropout
from src.models.ops.silu_linear import silu_linear


class FeedForward(nn.Module):
    """Feed-forward module: linear, SiLU, dropout, linear (section 2.3).

    Args:
        d_model: size of the input and output.
        d_ff: size of the hidden layer.
        use_bias: whether the linear layers have a bias.
        dropout: dropout probability of the hidden layer.
    """

    def __init__(self, d_model: int, d_ff: int, use_bias: bool, dropout: float):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff, use_bias)
        self.linear2 = nn.Linear(d_ff, d_model, use_bias)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, T, D] to [B, T, D]."""
        return silu_linear(self.linear1(x), self.linear2, self.dropout, self.training)


class ConvNorm(nn.Module):
    """Normalisation of the channels of [B, T, D] in the convolution module.

    Args:
        conv_norm_type: `batch_norm`, whose statistics in training include padded frames, as in
            NeMo; `layer_norm`, over the channels of each frame; or `group_norm<N>`, over N groups
            of channels and the frames of an utterance without its padding.
        d_model: number of channels.

    Raises:
        ValueError: conv_norm_type is none of these.
    """

    def __init__(self, conv_norm_type: str, d_model: int):
        super().__init__()
        self.groups = 0
        if conv_norm_type == "batch_norm":
            self.norm: nn.Module = BatchNorm(d_model)
        elif conv_norm_type == "layer_norm":
            self.norm = nn.LayerNorm(d_model)
        else:
            self.groups = group_count(conv_norm_type, d_model)
            self.norm = nn.GroupNorm(self.groups, d_model)

    def forward(self, x: Tensor, padding_mask: Tensor) -> Tensor:
        """Normalise [B, T, D]; padding_mask [B, T, 1] is True beyond the end."""
        if self.groups:
            return self.group_norm(x, padding_mask)
        if isinstance(self.norm, BatchNorm):
            return self.norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.norm(x)

    def group_norm(self, x: Tensor, padding_mask: Tensor) -> Tensor:
        """Group normalisation of [B, T, D] with statistics over the frames without padding.

        NeMo's GroupNorm counts padded frames, too, so that its outputs depend on the batch; those
        of an utterance without padding are the same.
        """
        grouped = x.float().unflatten(2, (self.groups, -1))  # [B, T, G, D / G]
        weight = (~padding_mask).unsqueeze(3).float()
        count = (weight.sum((1, 3), keepdim=True) * grouped.shape[3]).clamp(min=1)
        mean = (grouped * weight).sum((1, 3), keepdim=True) / count
        centred = (grouped - mean) * weight
        variance = centred.square().sum((1, 3), keepdim=True) / count
        scaled = (centred * torch.rsqrt(variance + self.norm.eps)).flatten(2)
        return (scaled * self.norm.weight + self.norm.bias).to(x.dtype)


def group_count(conv_norm_type: str, d_model: int) -> int:
    """N of `group_norm<N>`.

    Raises:
        ValueError: another norm, or N does not divide d_model.
    """
    number = conv_norm_type.removeprefix("group_norm")
    if number == conv_norm_type or not number.isdecimal():
        raise ValueError(
            f"ConformerEncoder.conv_norm_type: '{conv_norm_type}'; batch_norm, layer_norm or "
            "group_norm<N>."
        )
    if int(number) < 1 or d_model % int(number):
        raise ValueError(
            f"ConformerEncoder.conv_norm_type: '{conv_norm_type}'; the number of groups must "
            f"divide d_model {d_model}."
        )
    return int(number)


class ConvolutionModule(nn.Module):
    """Convolution module: pointwise, GLU, depthwise, norm, SiLU, pointwise (section 2.2).

    Args:
        d_model: number of channels.
        kernel_size: of the depthwise convolution, in frames.
        conv_context_size: left and right context of the depthwise convolution, in frames; their
            sum is kernel_size - 1.
        conv_norm_type: `batch_norm`, `layer_norm` or `group_norm<N>`.
        use_bias: whether the convolutions have a bias.
    """

    def __init__(
        self,
        d_model: int,
        kernel_size: int,
        conv_context_size: tuple[int, int],
        conv_norm_type: str,
        use_bias: bool,
    ):
        super().__init__()
        # A pointwise convolution is a linear map of each frame.
        self.pointwise_conv1 = nn.Linear(d_model, 2 * d_model, use_bias)
        self.depthwise_conv = DepthwiseConv(d_model, kernel_size, conv_context_size, use_bias)
        self.norm = ConvNorm(conv_norm_type, d_model)
        self.pointwise_conv2 = nn.Linear(d_model, d_model, use_bias)

    def forward(self, x: Tensor, padding_mask: Tensor) -> Tensor:
        """Map [B, T, D] to [B, T, D]; padding_mask [B, T, 1] is True beyond the end."""
        return self.convolve(self.gate(x, padding_mask), padding_mask)

    def gate(self, x: Tensor, padding_mask: Tensor) -> Tensor:
        """Pointwise convolution and GLU, zero where padding_mask [B, T, 1] is True: [B, T, D]."""
        return F.glu(self.pointwise_conv1(x), dim=-1).masked_fill(padding_mask, 0.0)

    def convolve(self, x: Tensor, padding_mask: Tensor, past: Tensor | None = None) -> Tensor:
        """The rest of the module.

        Args:
            x: from `gate`, [B, T, D].
            padding_mask: True beyond the end, [B, T, 1].
            past: what `gate` gave for the kernel_size - 1 frames before, [B, K - 1, D], for a
                causal convolution; None: x is the beginning.

        Returns:
            [B, T, D].
        """
        x = self.depthwise_conv(x, past)
        return silu_linear(self.norm(x, padding_mask), self.pointwise_conv2, 0.0, self.training)


class ConformerLayer(nn.Module):
    """Conformer block: half feed-forward, self-attention, convolution, half feed-forward, norm.

    Args:
        d_model: size of the vectors.
        num_heads: attention heads.
        d_ff: size of the hidden layer of the feed-forward modules.
        conv_kernel_size: of the depthwise convolution, in frames.
        conv_context_size: left and right context of the depthwise convolution, in frames.
        conv_norm_type: `batch_norm`, `layer_norm` or `group_norm<N>`.
        use_bias: whether linear layers and convolutions have a bias.
        dropout: dropout probability in the feed-forward modules and of each residual branch.
        dropout_att: dropout probability of the attention weights.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        conv_kernel_size: int,
        conv_context_size: tuple[int, int],
        conv_norm_type: str,
        use_bias: bool,
        dropout: float,
        dropout_att: float,
    ):
        super().__init__()
        self.dropout = dropout
        self.norm_feed_forward1 = nn.LayerNorm(d_model)
        self.feed_forward1 = FeedForward(d_model, d_ff, use_bias, dropout)
        self.norm_self_att = nn.LayerNorm(d_model)
        self.self_attn = RelPositionMultiHeadAttention(d_model, num_heads, use_bias, dropout_att)
        self.norm_conv = nn.LayerNorm(d_model)
        self.conv = ConvolutionModule(
            d_model, conv_kernel_size, conv_context_size, conv_norm_type, use_bias
        )
        self.norm_feed_forward2 = nn.LayerNorm(d_model)
        self.feed_forward2 = FeedForward(d_model, d_ff, use_bias, dropout)
        self.norm_out = nn.LayerNorm(d_model)

    def forward(
        self, x: Tensor, pos_emb: Tensor, attention_mask: Tensor, padding_mask: Tensor
    ) -> Tensor:
        """Apply the block.

        Args:
            x: [B, T, D].
            pos_emb: relative positional encoding, [2T - 1, D].
            attention_mask: True where frame i may not attend to frame j, [B, 1, 1 or T, T].
            padding_mask: True beyond the end, [B, T, 1].

        Returns:
            [B, T, D].
        """
        x = x + 0.5 * self.drop(self.feed_forward1(self.norm_feed_forward1(x)))
        y = self.norm_self_att(x)
        x = x + self.drop(self.self_attn(y, y, pos_emb, attention_mask))
        x = x + self.drop(self.conv(self.norm_conv(x), padding_mask))
        x = x + 0.5 * self.drop(self.feed_forward2(self.norm_feed_forward2(x)))
        return self.norm_out(x)

    def step(
        self,
        x: Tensor,
        pos_emb: Tensor,
        attention_mask: Tensor,
        padding_mask: Tensor,
        attention_past: Tensor,
        conv_past: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the block to the next frames of a stream, in evaluation mode.

        Args:
            x: [B, T, D].
            pos_emb: relative positional encoding, [P + 2T - 1, D].
            attention_mask: True where frame i may not attend to frame j, [B, 1, T, P + T].
            padding_mask: True beyond the end, [B, T, 1].
            attention_past: inputs of the attention for the P frames before, [B, P, D].
            conv_past: inputs of the depthwise convolution for the K - 1 frames before,
                [B, K - 1, D].

        Returns:
            The output [B, T, D], and attention_past and conv_past for the next frames, where x has
            no padding.
        """
        x = x + 0.5 * self.feed_forward1(self.norm_feed_forward1(x))
        y = self.norm_self_att(x)
        attended = torch.cat([attention_past, y], 1)
        x = x + self.self_attn(y, attended, pos_emb, attention_mask)
        gated = self.conv.gate(self.norm_conv(x), padding_mask)
        x = x + self.conv.convolve(gated, padding_mask, conv_past)
        x = x + 0.5 * self.feed_forward2(self.norm_feed_forward2(x))
        gated = torch.cat([conv_past, gated], 1)
        return self.norm_out(x), attended[:, x.shape[1] :], gated[:, x.shape[1] :]

    def drop(self, x: Tensor) -> Tensor:
        """Apply dropout in training."""
        return dropout(x, self.dropout, self.training)
