"""One layer of a Conformer (Gulati et al., arXiv 2005.08100, section 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.layers.conformer.relative_attention import RelativeAttention
from src.models.ops.depthwise_conv import DepthwiseConv
from src.models.ops.dropout import dropout
from src.models.ops.silu_linear import silu_linear


class FeedForward(nn.Module):
    """Two linear layers with SiLU between them (section 2.3)."""

    def __init__(self, width: int, hidden: int, bias: bool, dropout: float):
        super().__init__()
        self.expand = nn.Linear(width, hidden, bias)
        self.project = nn.Linear(hidden, width, bias)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        return silu_linear(self.expand(x), self.project, self.dropout, self.training)


class FrameNorm(nn.Module):
    """Normalises the channels of [B, T, D] between convolution and activation.

    Args:
        kind: `batch_norm`, whose training statistics include padded frames, as in NeMo;
            `layer_norm`, each frame by itself; `group_norm<N>`, N groups of channels over an
            utterance's own frames.
        width: channels.

    Raises:
        ValueError: another kind.
    """

    def __init__(self, kind: str, width: int):
        super().__init__()
        self.groups = 0
        if kind == "batch_norm":
            self.norm: nn.Module = nn.BatchNorm1d(width)
        elif kind == "layer_norm":
            self.norm = nn.LayerNorm(width)
        elif kind.startswith("group_norm") and kind.removeprefix("group_norm").isdigit():
            self.groups = int(kind.removeprefix("group_norm"))
            self.norm = nn.GroupNorm(self.groups, width)
        else:
            raise ValueError(
                f"ConformerEncoder: norm '{kind}' is none of batch_norm, layer_norm, group_norm<N>."
            )

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]; padding [B, T, 1] is True beyond the end."""
        if self.groups:
            return self.group_norm(x, padding)
        if isinstance(self.norm, nn.BatchNorm1d):
            return self.norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.norm(x)

    def group_norm(self, x: Tensor, padding: Tensor) -> Tensor:
        """Mean 0 and variance 1 of each group of channels over the frames that aren't padding."""
        grouped = x.float().unflatten(2, (self.groups, -1))  # [B, T, G, D / G]
        inside = (~padding).unsqueeze(3).float()
        count = (inside.sum((1, 3), keepdim=True) * grouped.shape[3]).clamp(min=1)
        mean = (grouped * inside).sum((1, 3), keepdim=True) / count
        centred = (grouped - mean) * inside
        variance = centred.square().sum((1, 3), keepdim=True) / count
        scaled = (centred * torch.rsqrt(variance + self.norm.eps)).flatten(2)
        return (scaled * self.norm.weight + self.norm.bias).to(x.dtype)


class ConvolutionModule(nn.Module):
    """Gate, depthwise convolution, norm, SiLU (section 2.2)."""

    def __init__(self, width: int, kernel: int, context: tuple[int, int], norm: str, bias: bool):
        super().__init__()
        self.expand = nn.Linear(width, 2 * width, bias)
        self.depthwise = DepthwiseConv(width, kernel, context, bias)
        self.norm = FrameNorm(norm, width)
        self.project = nn.Linear(width, width, bias)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]; padding [B, T, 1] is True beyond the end."""
        x = F.glu(self.expand(x), dim=-1).masked_fill(padding, 0.0)
        x = self.norm(self.depthwise(x), padding)
        return silu_linear(x, self.project, 0.0, self.training)


class ConformerLayer(nn.Module):
    """Half a feed-forward step, attention, convolution, half a feed-forward step, norm.

    Args:
        width: of the vectors.
        heads: of the attention.
        hidden: width inside the feed-forward modules.
        kernel: of the convolution, in frames.
        conv_context: zeros before and after it.
        norm: of the convolution, see `FrameNorm`.
        bias: of all linear maps and convolutions; the layer norms keep theirs.
        dropout: inside the feed-forward modules and after every module.
        dropout_attention: on the attention's weights.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        kernel: int,
        conv_context: tuple[int, int],
        norm: str,
        bias: bool,
        dropout: float,
        dropout_attention: float,
    ):
        super().__init__()
        self.dropout = dropout
        self.first_norm = nn.LayerNorm(width)
        self.first = FeedForward(width, hidden, bias, dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = RelativeAttention(width, heads, bias, dropout_attention)
        self.convolution_norm = nn.LayerNorm(width)
        self.convolution = ConvolutionModule(width, kernel, conv_context, norm, bias)
        self.second_norm = nn.LayerNorm(width)
        self.second = FeedForward(width, hidden, bias, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor, forbidden: Tensor, padding: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D].

        Args:
            x: [B, T, D].
            positions: [2T - 1, D].
            forbidden: pairs of frames, from `forbidden_pairs`.
            padding: [B, T, 1], True beyond the end.
        """
        x = x + 0.5 * self.drop(self.first(self.first_norm(x)))
        x = x + self.drop(self.attention(self.attention_norm(x), positions, forbidden))
        x = x + self.drop(self.convolution(self.convolution_norm(x), padding))
        x = x + 0.5 * self.drop(self.second(self.second_norm(x)))
        return self.norm(x)

    def drop(self, x: Tensor) -> Tensor:
        """Dropout, in training."""
        return dropout(x, self.dropout, self.training)
