"""Lookahead convolution: a glimpse of the future for one-way recurrent layers."""

import torch.nn.functional as F
from torch import Tensor, nn


class Lookahead(nn.Module):
    """r_t = sum over j = 0..future of W_j * h_(t+j), each feature by itself.

    Row convolution of Deep Speech 2 (arXiv 1512.02595, section 3.7); zeros past the end.

    Args:
        width: features.
        future: frames ahead that are seen.
    """

    def __init__(self, width: int, future: int):
        super().__init__()
        self.future = future
        self.conv = nn.Conv1d(width, width, future + 1, groups=width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix each frame with its future.

        Args:
            x: [B, T, width], zero beyond the lengths.

        Returns:
            [B, T, width].
        """
        return self.conv(F.pad(x.transpose(1, 2), (0, self.future))).transpose(1, 2)
