"""Gated single-head attention: near frames by all pairs, far ones in linear time.

The block of MossFormer (Zhao and Ma, arXiv 2302.11824), after FLASH (Hua et al., arXiv 2202.10447).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.layers.mossformer.conv_module import ConvModule, ScaleNorm, together
from src.models.layers.mossformer.masked_norm import hide
from src.models.ops.dropout import dropout
from src.models.ops.eager import eager_on_cpu

GROUP = 256  # frames that see each other one by one
KEY = 128  # width of queries and keys
TURNED = 32  # channels of queries and keys that tell positions


class Gate(torch.autograd.Function):
    """`by_u * v * sigmoid(by_v * u)`, of which only what goes in is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, heard: Tensor, hidden: Tensor) -> Tensor:
        """[B, T, C] of `by_v` and `by_u`, and of `v` and `u`, to [B, T, C / 2]."""
        ctx.save_for_backward(heard, hidden)
        (by_v, by_u), (v, u) = heard.chunk(2, dim=-1), hidden.chunk(2, dim=-1)
        # Not in place: torch.compile would lose the gradient of what is returned.
        return torch.sigmoid(by_v * u) * by_u * v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both."""
        heard, hidden = ctx.saved_tensors
        (by_v, by_u), (v, u) = heard.chunk(2, dim=-1), hidden.chunk(2, dim=-1)
        open = torch.sigmoid(by_v * u)
        through = grads[0] * open
        turned = through * (1 - open) * by_u * v  # of the gate before its sigmoid
        heard_grad = torch.cat([turned * u, through * v], -1)
        return heard_grad, torch.cat([through * by_u, turned * by_v], -1)


class GatedAttention(nn.Module):
    """One block: x + project(gate(attention(x))).

    Args:
        width: of the frames.
        dropout: share of weights and of what modules put out that training leaves out.
    """

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.hidden = ConvModule(width, 4 * width, ScaleNorm(width), dropout)
        self.key = ConvModule(width, KEY, ScaleNorm(width), dropout)
        self.project = ConvModule(2 * width, width, ScaleNorm(2 * width), dropout)
        # For the query and the key of near frames, and of far ones: q near, q far, k near, k far.
        self.factor = nn.Parameter(0.02 * torch.randn(4, KEY))
        self.offset = nn.Parameter(torch.zeros(4, KEY))

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], padding: Tensor | None) -> Tensor:
        """[B, T, D] to [B, T, D].

        Args:
            x: [B, T, D].
            turn: cosines and sines, from `turns`.
            padding: [B, T, 1], True beyond an item's end; None: there is none.
        """
        hidden, heads = self.listen(x, turn, padding)
        return x + self.project(self.attend(heads, hidden, padding), padding)

    def listen(
        self, x: Tensor, turn: tuple[Tensor, Tensor], padding: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Gates and values [B, T, C], and four turned forms of the shared vectors, [B, T, K]."""
        found = together([self.hidden, self.key], half_delayed(x), padding)
        hidden, shared = found.split([found.shape[2] - KEY, KEY], dim=-1)
        heads = [
            rotate(torch.addcmul(offset, shared, factor), turn)
            for factor, offset in zip(self.factor, self.offset, strict=True)
        ]
        return hide(hidden, padding), heads

    def attend(self, heads: list[Tensor], hidden: Tensor, padding: Tensor | None) -> Tensor:
        """What a frame hears gated by what it says itself: [B, T, C] to [B, T, C / 2].

        Far frames are heard through one matrix, without a softmax; those of the own group one by
        one. By group on a CPU, see `strips`.
        """
        query, far, key, far_key = heads
        frames = hidden.shape[1] if padding is None else (~padding).sum(1, keepdim=True)
        memory = far_key.transpose(1, 2) @ hidden / frames  # [B, K, C]
        if eager_on_cpu(hidden):
            parts = zip(*(t.split(GROUP, dim=1) for t in (hidden, query, far, key)), strict=True)
            return torch.cat([self.hear(h, q, f @ memory, k) for h, q, f, k in parts], 1)
        groups = (grouped(t) for t in (hidden, query, far @ memory, key))
        return self.hear(*groups).view(len(hidden), -1, hidden.shape[2] // 2)[:, : hidden.shape[1]]

    def hear(self, hidden: Tensor, query: Tensor, far: Tensor, key: Tensor) -> Tensor:
        """The same within groups.

        Args:
            hidden: [B, G, C].
            query, key: for near frames, [B, G, K].
            far: what is heard of far frames, [B, G, C].
        """
        weights = dropout(self.weights(query, key), self.dropout, self.training)
        return Gate.apply(torch.baddbmm(far, weights, hidden), hidden)

    @staticmethod
    def weights(query: Tensor, key: Tensor) -> Tensor:
        """How much each frame of a group hears each other, by the squared ReLU: [B, G, G]."""
        return F.relu(torch.bmm(query / GROUP, key.transpose(1, 2))).square()


def half_delayed(x: Tensor) -> Tensor:
    """[B, T, D] with the first half of the channels one frame later, zeros in front."""
    half = x.shape[2] // 2
    return torch.cat([F.pad(x[..., :half], (0, 0, 1, -1)), x[..., half:]], -1)


def grouped(x: Tensor) -> Tensor:
    """[B, T, D] to [B * groups, GROUP, D], with zeros at the end."""
    return F.pad(x, (0, 0, 0, -x.shape[1] % GROUP)).reshape(-1, GROUP, x.shape[2])


def turns(frequencies: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, F] of every frame's angles."""
    times = torch.arange(frames, device=frequencies.device, dtype=torch.float32)
    angles = times[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions (arXiv 2104.09864): neighbouring channels of the first TURNED as pairs."""
    cosine, sine = (t.to(x.dtype) for t in turn)
    a, b = x[..., :TURNED].unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([a * cosine - b * sine, b * cosine + a * sine], dim=-1).flatten(-2)
    return torch.cat([turned, x[..., TURNED:]], dim=-1)
