"""Random transforms in two steps: parameters for each item from its own seed, then all at once."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from src.utils.random import generator


class RandomTransform(nn.Module, ABC):
    """Changes each item of a batch with some probability.

    What an item gets depends on its seed and on the transform's salt alone: not on its
    neighbours, the device or the process.

    Args:
        probability: of changing an item.
    """

    key: str  # of the batch: what is changed

    def __init__(self, probability: float = 1.0):
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"{type(self).__name__}: probability {probability} is not in [0, 1].")
        self.probability = probability
        self.salt = type(self).__name__  # the chain replaces it by the transform's name there

    @abstractmethod
    def draw(self, generator: torch.Generator, length: int) -> Any:
        """Parameters of one item.

        Args:
            generator: of this item and transform.
            length: of the item, in samples or frames.
        """

    @abstractmethod
    def change(self, value: Tensor, length: Tensor, drawn: list[Any]) -> tuple[Tensor, Tensor]:
        """Change the items that were chosen.

        Args:
            value: [b, T] or [b, F, T], the chosen items.
            length: [b].
            drawn: b parameters.

        Returns:
            Their new values and lengths.
        """

    def forward(self, seed: Tensor, **batch) -> dict[str, Tensor]:
        """Draw for each item, and change those whose turn it is."""
        value, length = batch[self.key], batch[f"{self.key}_length"]
        chosen, drawn = [], []
        for i, (item, own) in enumerate(zip(seed.tolist(), length.tolist(), strict=True)):
            source = generator(item, self.salt)
            if torch.rand((), generator=source).item() < self.probability:
                chosen.append(i)
                drawn.append(self.draw(source, own))
        if not chosen:
            return {}
        index = torch.tensor(chosen, device=value.device)
        changed, new = self.change(value[index], length[index], drawn)
        lengths = length.index_copy(0, index, new)
        return {
            self.key: put_back(value, index, changed, int(lengths.max())),
            f"{self.key}_length": lengths,
        }


def put_back(value: Tensor, index: Tensor, changed: Tensor, size: int) -> Tensor:
    """`value` with the items at `index` replaced, its last axis cut or padded to `size`."""
    return fit(value, size).index_copy(0, index, fit(changed, size))


def fit(value: Tensor, size: int) -> Tensor:
    """Cut or zero-pad the last axis."""
    return nn.functional.pad(value, (0, size - value.shape[-1]))


def column(values: list[float], like: Tensor) -> Tensor:
    """One number an item, shaped to multiply `like` [b, ...]."""
    tensor = torch.tensor(values, dtype=like.dtype, device=like.device)
    return tensor.reshape(-1, *[1] * (like.ndim - 1))
