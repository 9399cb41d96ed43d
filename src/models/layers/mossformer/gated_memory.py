"""The recurrent module of MossFormer2 without recurrence (arXiv 2312.11825, section 2.2).

A feed-forward sequential memory network (FSMN): what a recurrent network would remember is weighed
from the frames around by dilated convolutions, densely connected, and gated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.models.layers.mossformer.conv_module import CentredNorm, ConvModule, together
from src.models.layers.mossformer.masked_norm import MaskedNorm, hide
from src.models.ops.depthwise_conv import depthwise

INNER = 256  # channels, whatever the width of the frames
ORDER = 20  # frames of memory to either side, the present one included


def leaky(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU on [B, T, D], with one slope or one for each channel."""
    return F.prelu(x.transpose(1, 2), slope).transpose(1, 2)


class MemoryConv(nn.Module):
    """A dilated convolution over time, norm over time, PReLU.

    Args:
        inputs: channels in for each channel out, 1 or 2 neighbours.
        dilation: in frames.
    """

    def __init__(self, inputs: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        kernel = 2 * ORDER - 1
        self.weight = nn.Conv1d(inputs * INNER, INNER, kernel, groups=INNER, bias=False).weight
        self.norm = MaskedNorm(INNER, axes=(1,), eps=1e-5)
        self.slope = nn.Parameter(torch.full((INNER,), 0.25))

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """[B, T, inputs * INNER], zero where it is padding, to [B, T, INNER]."""
        channels = self.weight.flatten(0, 1).unsqueeze(1)  # each by itself, then added up
        x = depthwise(x, channels, dilation=self.dilation)
        x = x if x.shape[2] == INNER else x[..., 0::2] + x[..., 1::2]  # a strided sum is slow
        return leaky(self.norm(x, padding), self.slope)


class DenseMemory(nn.Module):
    """Two memories, of which the second also sees what the first saw."""

    def __init__(self):
        super().__init__()
        self.expand = nn.Linear(INNER, INNER)
        self.project = nn.Linear(INNER, INNER, bias=False)
        self.first, self.second = MemoryConv(1, dilation=1), MemoryConv(2, dilation=2)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """[B, T, INNER] to [B, T, INNER]."""
        z = hide(self.project(F.relu(self.expand(x))), padding)
        if z.requires_grad:  # quick to compute again, and much to keep
            return x + checkpoint(
                self.remember, z, padding, use_reentrant=False, preserve_rng_state=False
            )
        return x + self.remember(z, padding)

    def remember(self, z: Tensor, padding: Tensor | None) -> Tensor:
        """[B, T, INNER], zero where it is padding, to [B, T, INNER]."""
        first = hide(self.first(z, padding), padding)
        return self.second(torch.cat([first, z], dim=-1), padding)


class GatedMemory(nn.Module):
    """One block: x + widen(y + gate(y) * memory(y)), y narrower than x.

    Args:
        width: of the frames.
        dropout: of its modules.
    """

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.narrow = nn.Linear(width, INNER)
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.norm_in, self.norm_out = nn.LayerNorm(INNER), nn.LayerNorm(INNER)
        self.content = ConvModule(INNER, INNER, CentredNorm(INNER), dropout)
        self.gate = ConvModule(INNER, INNER, CentredNorm(INNER), dropout)
        self.memory = DenseMemory()
        self.widen = nn.Linear(INNER, width)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        y = self.norm_in(leaky(self.narrow(x), self.slope))
        content, gate = together([self.content, self.gate], y, padding).chunk(2, dim=-1)
        y = torch.addcmul(y, gate, self.memory(content, padding))
        return x + self.widen(self.norm_out(y))
