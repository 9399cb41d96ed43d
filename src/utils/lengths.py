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


def without_padding(signal: Tensor, length: Tensor) -> Tensor:
    """Signals with zeros beyond the end of each item.

    Args:
        signal: [B, ..., T].
        length: [B], in samples.

    Returns:
        [B, ..., T], at least float32.
    """
    padding = padding_mask(length, signal.shape[-1])
    padding = padding.reshape(len(length), *[1] * (signal.ndim - 2), -1)
    signal = signal.to(torch.promote_types(signal.dtype, torch.float32))
    return signal.masked_fill(padding, 0.0)
