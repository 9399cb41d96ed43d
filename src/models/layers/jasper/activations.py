"""Activations of convolutional networks, with zeros in the padding."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from src.models.ops.masking import mask_padding

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "selu": F.selu,
    "hardtanh": F.hardtanh,  # -1 to 1, as in torch and NeMo
    "swish": F.silu,
}


def activate(x: Tensor, activation: str, padding_mask: Tensor | None) -> Tensor:
    """Apply an activation, and set padded frames to zero.

    Args:
        x: [B, T, C]; changed in place, so no operation may have saved it for backward.
        activation: a key of `ACTIVATIONS`.
        padding_mask: [B, T, 1], True beyond the end; None: no padding.
    """
    if activation != "relu":
        return mask_padding(ACTIVATIONS[activation](x), padding_mask)
    if padding_mask is not None:
        # Hidden from autograd, which saves memory: ReLU has no gradient where its result is zero.
        x.detach().masked_fill_(padding_mask, 0.0)
    return F.relu(x)
