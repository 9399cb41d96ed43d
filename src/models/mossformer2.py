"""MossFormer2: speech separation in the time domain (Zhao et al., arXiv 2312.11825)."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.layers.mossformer.mask_net import MaskNet
from src.models.layers.mossformer.masked_norm import hide
from src.utils.lengths import valid


class MossFormer2(nn.Module):
    """Encoder, masks, decoder.

    Args:
        width: filters of the encoder, and of the frames in all blocks.
        layers: blocks.
        kernel: window of encoder and decoder in samples, even; frames are half of it apart.
        speakers: signals that come out.
        dropout: share of the numbers in each block that training leaves out.
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
        dropout: float = 0.1,
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
        if not 0 <= dropout < 1:
            raise ValueError(f"MossFormer2: dropout {dropout} must be at least 0 and below 1.")
        self.options: dict[str, Any] = options
        self.kernel, self.stride, self.speakers = kernel, kernel // 2, speakers
        self.encoder = nn.Conv1d(1, width, kernel, self.stride, bias=False)
        self.mask_net = MaskNet(width, layers, speakers, dropout, memory, recompute)
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
