"""The masking net of MossFormer2: a mask for each speaker (arXiv 2312.11825, figure 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.layers.mossformer.gated_attention import GatedAttention
from src.models.layers.mossformer.gated_fsmn import GatedFSMN
from src.models.layers.mossformer.masked_norm import MaskedNorm
from src.models.layers.mossformer.rotary import Rotary, rotary_embedding, rotary_frequencies
from src.models.ops.checkpointing import checkpointed
from src.models.ops.prelu import prelu


class MossFormer2Block(nn.Module):
    """Gated attention over all frames, then a gated FSMN over neighbouring ones.

    Args:
        d_model: channels of the frames.
        dropout: probability of attention weights and of outputs of modules to be zeroed in
            training.
        use_fsmn: False for the block of MossFormer, which is the attention alone.
    """

    def __init__(self, d_model: int, dropout: float, use_fsmn: bool):
        super().__init__()
        self.attention = GatedAttention(d_model, dropout)
        self.fsmn = GatedFSMN(d_model, dropout) if use_fsmn else None

    def forward(self, x: Tensor, rotary: Rotary, padding_mask: Tensor | None) -> Tensor:
        """[B, T, D] to [B, T, D].

        Args:
            x: [B, T, D].
            rotary: cosines and sines from `rotary_embedding`.
            padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.
        """
        x = self.attention(x, rotary, padding_mask)
        return x if self.fsmn is None else self.fsmn(x, padding_mask)


class MaskNet(nn.Module):
    """A mask for each speaker from the encoded frames of a mixture.

    Args:
        d_model: channels of the frames.
        num_layers: blocks.
        num_speakers: masks for each frame.
        dropout: probability of attention weights and of outputs of modules to be zeroed in
            training.
        use_fsmn: False for the blocks of MossFormer.
        activation_checkpointing: save only the inputs of blocks for backward.
    """

    def __init__(
        self,
        d_model: int,
        num_layers: int,
        num_speakers: int,
        dropout: float,
        use_fsmn: bool,
        activation_checkpointing: bool,
    ):
        super().__init__()
        self.num_speakers = num_speakers
        self.activation_checkpointing = activation_checkpointing
        self.norm = MaskedNorm(d_model, axes=(1, 2), eps=1e-8)
        self.input_proj = nn.Linear(d_model, d_model, bias=False)
        self.position_scale = nn.Parameter(torch.ones(1))
        self.rotary_frequencies = nn.Parameter(rotary_frequencies(), requires_grad=False)
        self.blocks = nn.ModuleList(
            MossFormer2Block(d_model, dropout, use_fsmn) for _ in range(num_layers)
        )
        self.frame_norm = nn.LayerNorm(d_model, eps=1e-6)
        self.item_norm = MaskedNorm(d_model, axes=(1, 2), eps=1e-8)
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.speaker_proj = nn.Linear(d_model, d_model * num_speakers)
        self.value, self.gate = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.output_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """[B, T, D] to masks [B, T, S, D], not negative.

        Args:
            x: encoded frames, [B, T, D].
            padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.
        """
        x = self.input_proj(self.norm(x, padding_mask))
        x = x + self.position_scale * sinusoidal_positions(x.shape[1], x.shape[2], x.device)
        x = self.item_norm(self.frame_norm(self.run_blocks(x, padding_mask)), padding_mask) + x
        x = self.speaker_proj(prelu(x, self.slope)).unflatten(-1, (self.num_speakers, -1))
        return F.relu(self.output_proj(torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x))))

    def run_blocks(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Apply all blocks: [B, T, D] to [B, T, D].

        Args:
            x: [B, T, D].
            padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.
        """
        rotary = rotary_embedding(self.rotary_frequencies, x.shape[1])
        for block in self.blocks:
            if self.activation_checkpointing:
                x = checkpointed(block, x, rotary, padding_mask)
            else:
                x = block(x, rotary, padding_mask)
        return x


def sinusoidal_positions(frames: int, d_model: int, device: torch.device) -> Tensor:
    """Sines, then cosines, of the positions of all frames: [T, D] (arXiv 1706.03762)."""
    powers = torch.arange(0, d_model, 2, device=device).float() / d_model
    frequencies = 1.0 / (10000**powers)
    angles = torch.arange(frames, device=device).float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
