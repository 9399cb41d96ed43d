"""Random blocks of time for masked prediction (NEST, arXiv 2408.13106, section 2)."""

import math

import torch
from torch import Tensor, nn

from src.utils.lengths import valid
from src.utils.random import uniform_table

SHORT_BLOCK = 8  # frames at the start that the older algorithm masks in a short utterance
LONGEST_SHARE = 0.8  # of an utterance that one block may take in the older algorithm


class BlockMask(nn.Module):
    """Which frames to hide, drawn for a whole batch at once from the items' seeds.

    NVIDIA's toolkit has had two algorithms. Both mask blocks that start at each frame with a
    given probability. `nemo_2` is the older one, by its date that of the public checkpoints: the
    last frame is never masked, and an utterance of which a block would take 80 % or more has its
    first 8 frames masked instead. (It draws a binomial number of distinct starts, which is
    the same as a draw for each start.) `nemo_3` masks nothing in an utterance shorter than a block.

    Args:
        block: frames.
        probability: of a block's start at a frame; without overlap, the share of frames masked.
        overlap: whether blocks may overlap. If not, time is cut into slots of one block from a
            random offset on, and ceil(frames * probability / block) of them are masked; blocks
            become shorter where so many don't fit.
        algorithm: nemo_2 or nemo_3.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        block: int = 40,
        probability: float = 0.01,
        overlap: bool = True,
        algorithm: str = "nemo_2",
    ):
        super().__init__()
        if block < 1 or not 0 <= probability <= 1:
            raise ValueError(f"BlockMask: block {block}, probability {probability}.")
        if algorithm not in ("nemo_2", "nemo_3"):
            raise ValueError(f"BlockMask: algorithm '{algorithm}' is neither nemo_2 nor nemo_3.")
        self.block, self.probability = block, probability
        self.overlap, self.algorithm = overlap, algorithm

    @torch.no_grad()
    def forward(self, seed: Tensor, length: Tensor, size: int, shorten: int = 1) -> Tensor:
        """True at masked frames, [B, size].

        Args:
            seed: int64 [B].
            length: [B], valid frames; nothing beyond is masked.
            size: frames with padding.
            shorten: divide the block by it, for masks on subsampled frames.
        """
        block = max(1, self.block // shorten)
        if self.overlap:
            mask = self.overlapping(seed, length, size, block)
        else:
            mask = self.separate(seed, length, size, block)
        if self.algorithm == "nemo_2":
            short = (length * LONGEST_SHARE <= block).unsqueeze(1)
            start = torch.arange(size, device=length.device) < SHORT_BLOCK
            mask = torch.where(short, start, mask)
        return mask & valid(length, size)

    def overlapping(self, seed: Tensor, length: Tensor, size: int, block: int) -> Tensor:
        """Blocks from every frame that is drawn and from which a block fits."""
        last = length - (block + int(self.algorithm == "nemo_2"))  # the last possible start
        starts = uniform_table(seed, size, "starts") < self.probability
        starts &= valid(last + 1, size)
        begun = starts.cumsum(1)  # blocks begun so far; those of a block ago are over
        over = torch.nn.functional.pad(begun, (block, 0))[:, :size]
        return begun > over

    def separate(self, seed: Tensor, length: Tensor, size: int, block: int) -> Tensor:
        """Blocks in distinct slots behind a random offset; the last slot stays free for it."""
        number = torch.ceil(length.double() * self.probability / block).long()
        fits = (number + 1) * block <= length
        own = torch.where(fits, block, length // (number + 1)).clamp(min=1)  # [B], a block's frames
        slots = length // own - 1
        chance = uniform_table(seed, size, "slots").masked_fill(~valid(slots, size), math.inf)
        rank = chance.argsort(dim=1).argsort(dim=1)
        chosen = (rank < number.unsqueeze(1)) & valid(slots, size)
        offset = (uniform_table(seed, 1, "offset")[:, 0] * own).long()
        frames = torch.arange(size, device=length.device) - offset.unsqueeze(1)
        slot = torch.div(frames, own.unsqueeze(1), rounding_mode="floor")
        return chosen.gather(1, slot.clamp(0, size - 1)) & (frames >= 0)
