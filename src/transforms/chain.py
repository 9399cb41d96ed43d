"""Transforms one after the other."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from src.transforms.base import RandomTransform

Batch = dict[str, Any]
Observer = Callable[[str, Batch, Batch], None]


class Chain(nn.ModuleDict):
    """Named transforms in order; each sees what the ones before it made of the batch.

    Args:
        transforms: name -> transform. The name salts the random draws, so that two transforms
            of one class draw different numbers.
    """

    def __init__(self, transforms: Mapping[str, nn.Module]):
        super().__init__(transforms)
        for name, transform in self.items():
            if isinstance(transform, RandomTransform):
                transform.salt = name

    def forward(self, **batch) -> Batch:
        """The batch after all transforms."""
        return self.run(batch)

    @torch.no_grad()
    def run(self, batch: Batch, observer: Observer | None = None) -> Batch:
        """The batch after all transforms.

        Args:
            batch: is left as it was.
            observer: called after each transform with its name and the batch before and after.
        """
        for name, transform in self.items():
            after = {**batch, **transform(**batch)}
            if observer is not None:
                observer(name, batch, after)
            batch = after
        return batch


def apply_to_item(chain: Chain, item: Batch) -> Batch:
    """Run a chain on one item of a dataset, as on a batch of one.

    Args:
        chain: of transforms on batches.
        item: tensors without the batch axis, an int `seed`, and whatever else.
    """
    keys = [k for k, v in item.items() if isinstance(v, torch.Tensor)]
    batch: Batch = {k: [v] for k, v in item.items()}
    for key in keys:
        batch[key] = item[key].unsqueeze(0)
        batch[f"{key}_length"] = torch.tensor([item[key].shape[-1]])
    batch["seed"] = torch.tensor([item["seed"]])
    after = chain(**batch)
    return item | {k: v[0] for k, v in after.items() if k in keys or k not in batch}
