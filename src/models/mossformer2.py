"""MossFormer2: speech separation in the time domain (Zhao et al., arXiv 2312.11825)."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.layers.mossformer.mask_net import MaskNet
from src.models.ops.dispatch import known_values
from src.models.ops.masking import mask_padding
from src.utils.lengths import padding_mask, without_padding


class MossFormer2(nn.Module):
    """Separate the speakers of a mixture: a convolutional encoder, masks, a decoder.

    Args:
        d_model: filters of the encoder, and channels of the frames in all blocks; even.
        num_layers: blocks.
        kernel_size: of encoder and decoder in samples, even; their stride is half of it.
        num_speakers: signals that are estimated.
        dropout: probability of attention weights and of outputs of modules in each block to be
            zeroed in training.
        use_fsmn: False for the blocks of MossFormer (arXiv 2302.11824), without the FSMN.
        activation_checkpointing: save only the inputs of blocks for backward and compute each
            block there again: a fraction of the memory for a third more time.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        d_model: int = 512,
        num_layers: int = 24,
        kernel_size: int = 16,
        num_speakers: int = 2,
        dropout: float = 0.1,
        use_fsmn: bool = True,
        activation_checkpointing: bool = False,
    ):
        options = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        super().__init__()
        for name, value, even in (
            ("d_model", d_model, True),
            ("num_layers", num_layers, False),
            ("kernel_size", kernel_size, True),
            ("num_speakers", num_speakers, False),
        ):
            if value < 1 or (even and value % 2):
                allowed = "an even number, 2 or more" if even else "1 or more"
                raise ValueError(f"MossFormer2: {name} is {value}; allowed: {allowed}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"MossFormer2: dropout is {dropout}; allowed: from 0 to below 1.")
        self.options: dict[str, Any] = options  # as given, for exports
        self.kernel_size, self.stride = kernel_size, kernel_size // 2
        self.num_speakers = num_speakers
        self.encoder = nn.Conv1d(1, d_model, kernel_size, self.stride, bias=False)
        self.mask_net = MaskNet(
            d_model, num_layers, num_speakers, dropout, use_fsmn, activation_checkpointing
        )
        self.decoder = nn.ConvTranspose1d(d_model, 1, kernel_size, self.stride, bias=False)

    def num_frames(self, samples: Any) -> Any:
        """Number of output frames of the encoder for a number of samples (int or Tensor)."""
        return (samples - self.kernel_size) // self.stride + 1

    def forward(
        self,
        audio: Float[Tensor, "B T"],
        audio_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """Estimate the signal of each speaker.

        Args:
            audio: mixtures, [B, T].
            audio_length: in samples, [B].

        Returns:
            `estimates` [B, S, T] with `estimates_length`, and `masks` [B, S, D, N] over N encoded
            frames with `masks_length`. The last samples of a mixture, fewer than half a kernel,
            belong to no frame and are 0 in `estimates`. A mixture shorter than the kernel is
            followed by zeros up to one frame.
        """
        samples = known_values(audio_length)
        padded, padded_length = audio, audio_length
        if samples is not None and min(samples) < self.kernel_size:
            padded, padded_length = self.pad_short(audio, audio_length)
        encoded = F.relu(self.encoder(padded.unsqueeze(1))).transpose(1, 2)  # [B, N, D]
        masks_length = self.num_frames(padded_length)
        padding = None  # spares equally long mixtures the masking
        if samples is None or min(samples) < audio.shape[1]:
            padding = padding_mask(masks_length, encoded.shape[1]).unsqueeze(2)  # [B, N, 1]
        masks = self.mask_net(encoded, padding)  # [B, N, S, D]
        masked = masks * mask_padding(encoded, padding).unsqueeze(2)
        masked = masked.permute(0, 2, 3, 1)  # [B, S, D, N]
        estimates = self.decoder(masked.flatten(0, 1)).unflatten(0, (-1, self.num_speakers))
        estimates = F.pad(estimates.squeeze(2), (0, audio.shape[1] - estimates.shape[3]))
        return {
            "estimates": estimates,
            "estimates_length": audio_length,
            "masks": masks.permute(0, 2, 3, 1),
            "masks_length": masks_length,
        }

    def pad_short(self, audio: Tensor, audio_length: Tensor) -> tuple[Tensor, Tensor]:
        """Mixtures [B, T], each zero-padded to at least the kernel, and their lengths [B]."""
        missing = max(0, self.kernel_size - audio.shape[1])
        padded = F.pad(without_padding(audio, audio_length), (0, missing))
        return padded, audio_length.clamp(min=self.kernel_size)
