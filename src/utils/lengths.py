"""Masks made from lengths."""

import torch
from torch import Tensor


def padding_mask(length: Tensor, size: int) -> Tensor:
    """Mask of the padded elements: True beyond the end of each item.

    Args:
        length: [B], elements of each item without padding.
        size: size of the padded axis.

    Returns:
        [B, size], bool.
    """
    return torch.arange(size, device=length.device) >= length.unsqueeze(-1)
