"""A sequence of named transforms."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from src.transforms.base import RandomTransform
from src.transforms.views import Views

Batch = dict[str, Any]
STAGES = "audio_stages"  # key of an item


class Chain(nn.ModuleDict):
    """Applies named transforms in order; each receives the batch as the previous ones left it.

    Args:
        transforms: transforms by name; None values are skipped, so that a config can remove a
            transform by setting it to null. The name becomes the salt of a random transform:
            two transforms of the same class draw different parameters.

    Attributes:
        keeps_stages: whether `apply_to_item` keeps the audio between transforms.

    Raises:
        ValueError: an entry is not a transform.
    """

    keeps_stages = False

    def __init__(self, transforms: Mapping[str, nn.Module | None]):
        modules = {name: step for name, step in transforms.items() if step is not None}
        for name, transform in modules.items():
            if not isinstance(transform, nn.Module):
                raise ValueError(
                    f"transforms, {name}: {transform!r}; a transform (a mapping with _target_) "
                    "or null."
                )
            if isinstance(transform, RandomTransform):
                transform.salt = name
        super().__init__(modules)

    @torch.no_grad()
    def forward(self, **batch) -> Batch:
        """Apply all transforms to a batch; returns the complete transformed batch."""
        for _, after in self.stages(batch):
            batch = after
        return batch

    def stages(self, batch: Batch) -> Iterator[tuple[str, Batch]]:
        """The name of each transform with the complete batch after it.

        Args:
            batch: not modified.
        """
        for name, transform in self.items():
            batch = {**batch, **transform(**batch)}
            yield name, batch


def apply_to_item(chain: Chain, item: Batch) -> Batch:
    """Apply a chain of batch transforms to a single dataset item.

    Args:
        chain: transforms that expect batches.
        item: tensors without a batch axis, an int `seed`, and any other values.

    Returns:
        The item with its tensors replaced by their transformed versions; keys that a transform
        adds are included, but for lengths: a tensor is cut to its own, and `collate` makes them
        anew. With `chain.keeps_stages` it has `audio_stages`, too: those that the item had or its
        audio, and the audio after each transform.

    Raises:
        ValueError: a transform repeats the items of a batch; names it.
    """
    for name, transform in chain.items():
        if isinstance(transform, Views):
            raise ValueError(f"transforms, {name}: Views repeats items; only for whole batches.")
    keys = [k for k, v in item.items() if isinstance(v, torch.Tensor)]
    batch: Batch = {k: [v] for k, v in item.items()}
    for key in keys:
        batch[key] = item[key].unsqueeze(0)
        batch[f"{key}_length"] = torch.tensor([item[key].shape[-1]])
    batch["seed"] = torch.tensor([item["seed"]])
    after = chain(**batch)
    if chain.keeps_stages and "audio" in item:
        item = item | {
            STAGES: [*item.get(STAGES, [("input", item["audio"])]), *changes(chain, batch)]
        }
    added = {
        key: unpadded(after, key) for key in after if key not in batch and not is_length(after, key)
    }
    return item | {key: after[key][0] for key in keys} | added


def is_length(batch: Batch, key: str) -> bool:
    """Whether a key of a batch is the length of another one."""
    return key.endswith("_length") and key.removesuffix("_length") in batch


def unpadded(batch: Batch, key: str) -> Any:
    """A value of the only item of a batch, without padding."""
    value, length = batch[key][0], batch.get(f"{key}_length")
    return value if length is None else value[..., : int(length[0])]


@torch.no_grad()
def changes(chain: Chain, batch: Batch) -> list[tuple[str, torch.Tensor]]:
    """(name, audio [T]) of each transform that changes the audio of a batch of one item."""
    found, before = [], batch
    for name, after in chain.stages(batch):
        if after["audio"] is not before["audio"]:
            found.append((name, after["audio"][0]))
        before = after
    return found
