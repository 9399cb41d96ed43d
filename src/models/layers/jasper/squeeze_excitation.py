"""Squeeze-and-excitation over whole utterances (Citrinet, arXiv 2104.01721, section 2.2)."""

import torch
from torch import Tensor, nn

from src.models.layers.jasper.activations import ACTIVATIONS


class SqueezeExcitation(nn.Module):
    """Channels scaled by a function of their means over the utterance, in float32.

    Args:
        channels: C.
        reduction_ratio: C divided by the size of the hidden layer.
        activation: of the hidden layer, a key of `ACTIVATIONS`.
    """

    def __init__(self, channels: int, reduction_ratio: int, activation: str):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction_ratio, bias=False)
        self.fc2 = nn.Linear(channels // reduction_ratio, channels, bias=False)
        for linear in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(linear.weight)
        self.activation = activation

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Scale the channels.

        Args:
            x: [B, T, C].
            padding_mask: [B, T, 1], True beyond the end; None: no padding.

        Returns:
            [B, T, C].
        """
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            means = utterance_means(x, padding_mask)
            return x * self.fc2(ACTIVATIONS[self.activation](self.fc1(means))).sigmoid()


def utterance_means(x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Means over the frames without padding, [B, 1, C] from [B, T, C].

    A matrix product, which unlike a sum of masked frames needs no copy of them.
    """
    if padding_mask is None:
        return x.mean(1, keepdim=True)
    weights = (~padding_mask).to(x.dtype)  # [B, T, 1]
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1)
    return weights.transpose(1, 2) @ x
