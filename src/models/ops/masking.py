"""Zeros in the padding of a batch."""

from torch import Tensor


def mask_padding(x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Return `x` with zeros in the padding.

    Args:
        x: [B, T, D].
        padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding, and `x` is
            returned as it is.
    """
    return x if padding_mask is None else x.masked_fill(padding_mask, 0.0)
