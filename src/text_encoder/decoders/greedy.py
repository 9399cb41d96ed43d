"""The best label of every frame."""

import torch
from torch import Tensor


class GreedyDecoder:
    """Takes the most likely label of each frame, merges repeats, drops blanks."""

    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[int]]:
        """Token ids for each utterance.

        Args:
            log_probs: [B, T, V]; label 0 is the blank.
            log_probs_length: [B].
        """
        best = log_probs.argmax(dim=-1)
        return [
            [token for token in torch.unique_consecutive(row[:length]).tolist() if token]
            for row, length in zip(best, log_probs_length.tolist(), strict=True)
        ]
