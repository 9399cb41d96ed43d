"""Items to a batch, for every task."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Put items side by side.

    Tensors are zero-padded on their last axis and stacked, with `<key>_length` (int64 [B])
    beside them; ints become int64 [B]; everything else a list. Items that only say why a file
    couldn't be read are left out, and counted.

    Returns:
        The batch, with `skipped`, the number of items left out, and their `errors`.

    """
    errors = [item["error"] for item in items if "error" in item]
    items = [item for item in items if "error" not in item]
    batch: dict[str, Any] = {"id": [], "skipped": len(errors), "errors": errors}
    for key in common_keys(items):
        values = [item[key] for item in items]
        if isinstance(values[0], Tensor):
            lengths = [value.shape[-1] for value in values]
            longest = max(lengths)
            batch[key] = torch.stack([pad(v, (0, longest - v.shape[-1])) for v in values])
            batch[f"{key}_length"] = torch.tensor(lengths, dtype=torch.int64)
        elif isinstance(values[0], int):
            batch[key] = torch.tensor(values, dtype=torch.int64)
        else:
            batch[key] = values
    return batch


def common_keys(items: list[dict[str, Any]]) -> list[str]:
    """The keys that all items have, in the order of the first.

    A transcript or speaker that only some of a batch have is of no use to it.
    """
    if not items:
        return []
    return [key for key in items[0] if all(key in item for item in items)]
