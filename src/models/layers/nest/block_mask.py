"""Random block masking for masked token prediction (NEST, arXiv 2408.13106, section 2)."""

import math

import torch
from torch import Tensor, nn

from src.utils.lengths import padding_mask
from src.utils.options import check_choice, check_number, check_sizes
from src.utils.random import uniform_table

SHORT_BLOCK = 8  # frames that nemo_2 masks at the start of a short utterance
MAX_MASK_RATIO = 0.8  # largest fraction of an utterance that a block may take in nemo_2


class BlockMask(nn.Module):
    """Mask of random blocks of frames, drawn for a batch from a seed for each utterance.

    A block starts at each frame with the probability mask_prob, as in the two algorithms of NeMo.
    `nemo_2` is the older one, with which the public checkpoints were trained, judging by their
    dates: it never masks the last frame, and masks the first 8 frames of utterances of which a
    block would take 80 % or more. (NeMo draws a binomial number of distinct starts there, which is
    the same distribution.) `nemo_3` masks nothing in utterances shorter than a block.

    Args:
        block_size: frames of a block.
        mask_prob: probability of a block's start at a frame; without overlap, the fraction of
            masked frames.
        allow_overlap: whether blocks may overlap. Otherwise time is divided into slots of one
            block, with a random offset, and ceil(frames * mask_prob / block_size) slots are masked;
            blocks are shorter in utterances that have fewer slots.
        algorithm: `nemo_2` or `nemo_3`.

    Raises:
        ValueError: an argument is outside of these values.
    """

    def __init__(
        self,
        block_size: int = 40,
        mask_prob: float = 0.01,
        allow_overlap: bool = True,
        algorithm: str = "nemo_2",
    ):
        super().__init__()
        check_sizes("BlockMask", block_size=block_size)
        check_number("BlockMask.mask_prob", mask_prob, 0, 1, inclusive=True)
        check_choice("BlockMask.algorithm", algorithm, ("nemo_2", "nemo_3"))
        self.block_size, self.mask_prob = block_size, mask_prob
        self.allow_overlap, self.algorithm = allow_overlap, algorithm

    @torch.no_grad()
    def forward(
        self, seed: Tensor, length: Tensor, size: int, subsampling_factor: int = 1
    ) -> Tensor:
        """Draw a mask.

        Args:
            seed: [B], int64; the mask of an utterance depends on its seed and length only.
            length: [B], frames of each utterance without padding.
            size: T, frames with padding.
            subsampling_factor: divides block_size, for masks on subsampled frames.

        Returns:
            [B, T], True at masked frames; padding is not masked.
        """
        block_size = max(1, self.block_size // subsampling_factor)
        draw = self.overlapping if self.allow_overlap else self.non_overlapping
        mask = draw(seed, length, size, block_size)
        if self.algorithm == "nemo_2":
            short = (length * MAX_MASK_RATIO <= block_size).unsqueeze(1)
            start = torch.arange(size, device=length.device) < SHORT_BLOCK
            mask = torch.where(short, start, mask)
        return mask & ~padding_mask(length, size)

    def overlapping(self, seed: Tensor, length: Tensor, size: int, block_size: int) -> Tensor:
        """Mask [B, T] of blocks that may overlap and lie within the utterance."""
        last_start = length - (block_size + int(self.algorithm == "nemo_2"))
        starts = uniform_table(seed, size, "starts") < self.mask_prob
        starts &= ~padding_mask(last_start + 1, size)
        started = starts.cumsum(1)  # blocks started up to each frame
        ended = torch.nn.functional.pad(started, (block_size, 0))[:, :size]
        return started > ended

    def non_overlapping(self, seed: Tensor, length: Tensor, size: int, block_size: int) -> Tensor:
        """Mask [B, T] of blocks in distinct slots after a random offset.

        There is one slot less than fits, which leaves room for the offset.
        """
        number = torch.ceil(length.double() * self.mask_prob / block_size).long()
        fits = (number + 1) * block_size <= length
        own = torch.where(fits, block_size, length // (number + 1)).clamp(min=1)  # [B], block size
        no_slot = padding_mask(length // own - 1, size)
        order = uniform_table(seed, size, "slots").masked_fill(no_slot, math.inf).argsort(dim=1)
        masked = (order.argsort(dim=1) < number.unsqueeze(1)) & ~no_slot  # [B, slots]
        offset = (uniform_table(seed, 1, "offset")[:, 0] * own).long()
        frames = torch.arange(size, device=length.device) - offset.unsqueeze(1)
        slot = torch.div(frames, own.unsqueeze(1), rounding_mode="floor")
        return masked.gather(1, slot.clamp(0, size - 1)) & (frames >= 0)
