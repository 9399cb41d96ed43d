"""Masks made from lengths."""

import torch
from torch import Tensor


def valid(length: Tensor, size: int) -> Tensor:
    """Where an item's own elements are, among padded ones.

    Args:
        length: [B], valid elements of each item.
        size: size of the padded axis.

    Returns:
        [B, size], True at the elements before each item's length.
    """
    return torch.arange(size, device=length.device) < length.unsqueeze(-1)
