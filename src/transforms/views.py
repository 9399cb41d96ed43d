"""Several differently augmented views of each utterance of a batch."""

from typing import Any

import torch
from torch import Tensor, nn

from src.utils.options import check_whole
from src.utils.random import mix, shifted


class Views(nn.Module):
    """Repeats each item of a batch, so that the random transforms after it differ between copies.

    For losses that compare them, e.g. `ConsistencyLoss`. Transforms before it are shared by the
    copies; give `dataloader.max_seconds` 1 / count of its value for the same memory.

    Args:
        count: copies of each item.

    Raises:
        ValueError: `count` is not a whole number from 2.
    """

    def __init__(self, count: int = 2):
        super().__init__()
        check_whole("Views, count", count, 2)
        self.count = count

    def forward(self, id: list[str], seed: Tensor, **batch) -> dict[str, Any]:
        """Repeat all items: first copies of all, second copies of all, ...

        Args:
            id: of the B items.
            seed: [B], int64; the copies get other seeds.
            **batch: tensors [B, ...] and lists of B values are repeated, other values kept.

        Returns:
            The keys of the items with count * B rows, and `views`, the number of copies.
        """
        size = len(id)
        seeds = [seed]
        for _ in range(1, self.count):
            seeds.append(shifted(mix(seeds[-1]), 1))  # a new seed of at least 0
        rows = {key: value for key, value in batch.items() if has_rows(value, size)}
        repeated = {
            key: value.repeat(self.count, *[1] * (value.ndim - 1))
            if isinstance(value, Tensor)
            else list(value) * self.count
            for key, value in {"id": id, **rows}.items()
        }
        return {**repeated, "seed": torch.cat(seeds), "views": self.count}


def has_rows(value: Any, size: int) -> bool:
    """Whether a value of a batch has one row for each of `size` items."""
    if isinstance(value, Tensor):
        return value.ndim > 0 and len(value) == size
    return isinstance(value, list) and len(value) == size
