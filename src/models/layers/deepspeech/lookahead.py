"""Lookahead convolution of unidirectional models (Wang et al., 2016)."""

import torch.nn.functional as F
from torch import Tensor, nn


class Lookahead(nn.Module):
    """Row convolution: r_t = sum over j = 0..context of w_j * h_{t+j}, for each feature by itself.

    Deep Speech 2 (arXiv 1512.02595, section 3.7). The sequence is padded with zeros at the end.

    Args:
        num_features: D, size of the vectors.
        context: number of future frames.
    """

    def __init__(self, num_features: int, context: int):
        super().__init__()
        self.context = context
        self.conv = nn.Conv1d(
            num_features, num_features, context + 1, groups=num_features, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [B, T, D], zero beyond the end of each utterance, to [B, T, D]."""
        return self.conv(F.pad(x.transpose(1, 2), (0, self.context))).transpose(1, 2)
