"""MossFormer2: speech separation in the time domain (Zhao et al., arXiv 2312.11825)."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from src.models.layers.gated_attention import TURNED, GatedAttention, turns
from src.models.layers.gated_memory import GatedMemory
from src.models.layers.masked_norm import MaskedNorm, hide
from src.utils.lengths import valid


class Block(nn.Module):
    """Attention over all frames, then a memory of near ones; plain MossFormer has no memory."""

    def __init__(self, width: int, memory: bool):
        super().__init__()
        self.attention = GatedAttention(width)
        self.memory = GatedMemory(width) if memory else None

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
        memory: whether blocks are those of MossFormer2, or plain MossFormer's.
        recompute: see `MossFormer2`.
    """

    def __init__(self, width: int, layers: int, speakers: int, memory: bool, recompute: bool):
        super().__init__()
        self.speakers, self.recompute = speakers, recompute
        self.norm = MaskedNorm(width, axes=(1, 2), eps=1e-8)
        self.enter = nn.Linear(width, width, bias=False)
        self.position_scale = nn.Parameter(torch.ones(1))
        frequencies = 10000.0 ** (-torch.arange(0, TURNED, 2).float() / TURNED)
        self.frequencies = nn.Parameter(frequencies, requires_grad=False)
        self.blocks = nn.ModuleList(Block(width, memory) for _ in range(layers))
        self.frame_norm = nn.LayerNorm(width, eps=1e-6)
        self.item_norm = MaskedNorm(width, axes=(1, 2), eps=1e-8)
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.split = nn.Linear(width, width * speakers)
        self.value, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.leave = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """[B, T, D] to [B, T, S, D], 0 or more."""
        start = self.enter(self.norm(x, padding))
        start = start + self.position_scale * positions(*start.shape[1:], x.device)
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


class MossFormer2(nn.Module):
    """Encoder, masks, decoder.

    Args:
        width: filters of the encoder, and of the frames in all blocks.
        layers: blocks.
        kernel: window of encoder and decoder in samples, even; frames are half of it apart.
        speakers: signals that come out.
        memory: False for the blocks of plain MossFormer (arXiv 2302.11824).
        recompute: compute each block again on the way back, for a third more time and a fraction
            of the memory.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        width: int = 512,
        layers: int = 24,
        kernel: int = 16,
        speakers: int = 2,
        memory: bool = True,
        recompute: bool = False,
    ):
        options = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        if kernel < 2 or kernel % 2 or width < 2 or width % 2 or layers < 1 or speakers < 1:
            raise ValueError(
                f"MossFormer2: kernel {kernel} and width {width} must be even, and layers {layers} "
                f"and speakers {speakers} at least 1."
            )
        self.options: dict[str, Any] = options
        self.kernel, self.stride, self.speakers = kernel, kernel // 2, speakers
        self.encoder = nn.Conv1d(1, width, kernel, self.stride, bias=False)
        self.mask_net = MaskNet(width, layers, speakers, memory, recompute)
        self.decoder = nn.ConvTranspose1d(width, 1, kernel, self.stride, bias=False)

    def frames(self, samples: Any) -> Any:
        """Frames of so many samples (an int or tensor)."""
        return (samples - self.kernel) // self.stride + 1

    def forward(
        self,
        audio: Float[Tensor, "B T"],
        audio_length: Int[Tensor, " B"],
        id: list[str] | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """`estimates` [B, S, T], `masks` [B, S, D, n], and their lengths.

        The last few samples, fewer than half a window, belong to no frame and are 0.

        Raises:
            ValueError: audio is shorter than the window; names it by `id`.
        """
        own = audio_length.tolist()
        if min(own) < self.kernel:
            short = own.index(min(own))
            name = id[short] if id else f"item {short}"
            raise ValueError(f"{name}: {own[short]} samples, fewer than a window of {self.kernel}.")
        encoded = F.relu(self.encoder(audio.unsqueeze(1))).transpose(1, 2)  # [B, n, D]
        length = self.frames(audio_length)
        padding = None
        if min(own) < audio.shape[1]:
            padding = ~valid(length, encoded.shape[1]).unsqueeze(2)
        masks = self.mask_net(encoded, padding)  # [B, n, S, D]
        frames = masks * hide(encoded, padding).unsqueeze(2)
        samples = self.decoder(frames.permute(0, 2, 3, 1).flatten(0, 1)).unflatten(
            0, (-1, self.speakers)
        )
        estimates = F.pad(samples.squeeze(2), (0, audio.shape[1] - samples.shape[3]))
        return {
            "estimates": estimates,
            "estimates_length": audio_length,
            "masks": masks.permute(0, 2, 3, 1),
            "masks_length": length,
        }


def positions(frames: int, width: int, device: torch.device) -> Tensor:
    """Sines, then cosines, of each frame's number: [T, width] (arXiv 1706.03762)."""
    powers = torch.arange(0, width, 2, device=device).float() / width
    frequencies = 1.0 / (10000**powers)
    angles = torch.arange(frames, device=device).float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
