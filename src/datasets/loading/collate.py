"""Collation of items to a batch, for every task."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Collate items to a batch.

    Tensors are zero-padded on their last axis and stacked, and their lengths are added as
    `<key>_length` (int64 [B]). Ints become int64 [B]; other values, and tensors beside such, become
    lists. Keys that not all items have are dropped. Items {"error": message}, of files that
    couldn't be read, are skipped.

    Args:
        items: of a dataset.

    Returns:
        The batch, with `skipped`, the number of skipped items, and `errors`, their messages. If
        all items were skipped, `id` is an empty list and there are no other keys.
    """
    errors = [item["error"] for item in items if "error" in item]
    items = [item for item in items if "error" not in item]
    batch: dict[str, Any] = {"id": [], "skipped": len(errors), "errors": errors}
    for key in common_keys(items):
        values = [item[key] for item in items]
        if all(isinstance(value, Tensor) for value in values):
            lengths = [value.shape[-1] for value in values]
            longest = max(lengths)
            alone = len(values) == 1  # an hour of audio isn't copied
            padded = values if alone else [pad(v, (0, longest - v.shape[-1])) for v in values]
            batch[key] = padded[0].unsqueeze(0) if alone else torch.stack(padded)
            batch[f"{key}_length"] = torch.tensor(lengths, dtype=torch.int64)
        elif isinstance(values[0], int):
            batch[key] = torch.tensor(values, dtype=torch.int64)
        else:
            batch[key] = values
    return batch


def common_keys(items: list[dict[str, Any]]) -> list[str]:
    """The keys that all items have, in the order of the first item."""
    if not items:
        return []
    return [key for key in items[0] if all(key in item for item in items)]
