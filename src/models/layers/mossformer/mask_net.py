"""Masks for each speaker from the encoded frames of a mixture (arXiv 2312.11825, figure 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.models.layers.mossformer.gated_attention import TURNED, GatedAttention, turns
from src.models.layers.mossformer.gated_memory import GatedMemory
from src.models.layers.mossformer.masked_norm import MaskedNorm


class Block(nn.Module):
    """Attention over all frames, then a memory of near ones; plain MossFormer has no memory."""

    def __init__(self, width: int, dropout: float, memory: bool):
        super().__init__()
        self.attention = GatedAttention(width, dropout)
        self.memory = GatedMemory(width, dropout) if memory else None

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], padding: Tensor | None) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        x = self.attention(x, turn, padding)
        return x if self.memory is None else self.memory(x, padding)


class MaskNet(nn.Module):
    """A mask for each speaker from the frames of a mixture.

    Args:
        width: of the frames.
        layers: blocks.
        speakers: masks that come out.
        dropout, recompute: see `MossFormer2`.
        memory: whether blocks are those of MossFormer2, or plain MossFormer's.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        speakers: int,
        dropout: float,
        memory: bool,
        recompute: bool,
    ):
        super().__init__()
        self.speakers, self.recompute = speakers, recompute
        self.norm = MaskedNorm(width, axes=(1, 2), eps=1e-8)
        self.enter = nn.Linear(width, width, bias=False)
        self.position_scale = nn.Parameter(torch.ones(1))
        frequencies = 10000.0 ** (-torch.arange(0, TURNED, 2).float() / TURNED)
        self.frequencies = nn.Parameter(frequencies, requires_grad=False)
        self.blocks = nn.ModuleList(Block(width, dropout, memory) for _ in range(layers))
        self.frame_norm = nn.LayerNorm(width, eps=1e-6)
        self.item_norm = MaskedNorm(width, axes=(1, 2), eps=1e-8)
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.split = nn.Linear(width, width * speakers)
        self.value, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.leave = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """[B, T, D] to [B, T, S, D], 0 or more."""
        start = self.enter(self.norm(x, padding))
        start = start + self.position_scale * positions(x.shape[1], x.shape[2], x.device)
        turn = turns(self.frequencies, x.shape[1])
        x = start
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, turn, padding, use_reentrant=False)
            else:
                x = block(x, turn, padding)
        x = self.item_norm(self.frame_norm(x), padding) + start
        x = self.split(F.prelu(x, self.slope)).unflatten(-1, (self.speakers, -1))
        return F.relu(self.leave(torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x))))


def positions(frames: int, width: int, device: torch.device) -> Tensor:
    """Sines, then cosines, of each frame's number: [T, width] (arXiv 1706.03762)."""
    powers = torch.arange(0, width, 2, device=device).float() / width
    frequencies = 1.0 / (10000**powers)
    angles = torch.arange(frames, device=device).float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
