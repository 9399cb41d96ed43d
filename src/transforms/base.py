"""Base class of random transforms: parameters are drawn per item, then applied to the batch."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from src.utils.options import check_number
from src.utils.random import generator


class RandomTransform(nn.Module, ABC):
    """Transforms each item of a batch with probability `p`.

    The parameters of an item are drawn from a generator seeded with the item's seed and the
    transform's salt. They depend neither on the other items of the batch nor on the device or
    the process.

    Args:
        p: probability of transforming an item.

    Attributes:
        key: the batch key that is transformed, `audio` or `spectrogram`.
        salt: string mixed into the seed; `Chain` sets it to the transform's name in the config.

    Raises:
        ValueError: `p` is not in [0, 1].
    """

    key: str

    def __init__(self, p: float = 1.0):
        super().__init__()
        self.check_number("p", p, 0, 1)
        self.p = p
        self.salt = type(self).__name__

    @abstractmethod
    def draw(self, generator: torch.Generator, length: int) -> Any:
        """Draw the random parameters of one item.

        Args:
            generator: CPU generator of this item and this transform.
            length: of the item, in samples or frames.
        """

    @abstractmethod
    def change(self, value: Tensor, length: Tensor, drawn: list[Any]) -> tuple[Tensor, Tensor]:
        """Transform the selected items.

        Args:
            value: [b, T] or [b, F, T], the selected items.
            length: [b], in samples or frames.
            drawn: results of `draw`, one per selected item.

        Returns:
            The transformed values and their lengths [b].
        """

    def forward(self, seed: Tensor, **batch) -> dict[str, Tensor]:
        """Transform a random subset of the items.

        Args:
            seed: [B], int64, one seed per item.
            **batch: contains `<key>` and `<key>_length`.

        Returns:
            `<key>` and `<key>_length`, or an empty dict if no item was selected.
        """
        value, length = batch[self.key], batch[f"{self.key}_length"]
        selected, drawn = [], []
        for i, (item_seed, size) in enumerate(zip(seed.tolist(), length.tolist(), strict=True)):
            source = generator(item_seed, self.salt)
            if torch.rand((), generator=source).item() < self.p:
                selected.append(i)
                drawn.append(self.draw(source, size))
        if not selected:
            return {}
        index = torch.tensor(selected, device=value.device)
        changed, changed_length = self.change(value[index], length[index], drawn)
        lengths = length.index_copy(0, index, changed_length)
        return {
            self.key: replace_items(value, index, changed, int(lengths.max())),
            f"{self.key}_length": lengths,
        }

    def check_number(
        self, name: str, value: Any, low: float, high: float, inclusive: bool = True
    ) -> None:
        """Check a constructor argument.

        Args:
            name: of the argument.
            value: of the argument.
            low: smallest allowed value; excluded if `inclusive` is False.
            high: largest allowed value.
            inclusive: whether `low` itself is allowed.

        Raises:
            ValueError: the value is not a finite number in the range.
        """
        check_number(f"{type(self).__name__}, {name}", value, low, high, inclusive)

    def check_bounds(
        self,
        low_name: str,
        low: Any,
        high_name: str,
        high: Any,
        lowest: float = -math.inf,
        highest: float = math.inf,
        inclusive: bool = True,
    ) -> None:
        """Check two constructor arguments that are the bounds of a uniform distribution.

        Args:
            low_name: name of the lower bound.
            low: lower bound.
            high_name: name of the upper bound.
            high: upper bound; may equal `low`.
            lowest: smallest allowed value of either; excluded if `inclusive` is False.
            highest: largest allowed value of either.
            inclusive: whether `lowest` itself is allowed.

        Raises:
            ValueError: a bound is not a finite number in the range, or `low` exceeds `high`.
        """
        self.check_number(low_name, low, lowest, highest, inclusive)
        self.check_number(high_name, high, lowest, highest, inclusive)
        if low > high:
            owner = type(self).__name__
            raise ValueError(f"{owner}, {low_name}: {low}; at most {high_name}, which is {high}.")


def replace_items(value: Tensor, index: Tensor, changed: Tensor, size: int) -> Tensor:
    """A copy of `value` with the items at `index` replaced and the last axis resized to `size`."""
    return resize(value, size).index_copy(0, index, resize(changed, size))


def resize(value: Tensor, size: int) -> Tensor:
    """Truncate or zero-pad the last axis to `size`."""
    return nn.functional.pad(value, (0, size - value.shape[-1]))


def column(values: list[float], like: Tensor) -> Tensor:
    """A tensor [b, 1, ...] with one number per item that broadcasts against `like` [b, ...]."""
    tensor = torch.tensor(values, dtype=like.dtype, device=like.device)
    return tensor.reshape(-1, *[1] * (like.ndim - 1))
