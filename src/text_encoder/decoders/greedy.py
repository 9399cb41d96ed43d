"""Greedy (best path) CTC decoding."""

import torch
from torch import Tensor

from src.text_encoder.decoders.base import BLANK, CTCDecoder


class GreedyDecoder(CTCDecoder):
    """Takes the most probable token of each frame, merges repeats and removes blanks."""

    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[int]]:
        """Token ids of the best path of each utterance, without blanks.

        Args:
            log_probs: [B, T, V], natural logarithms; token 0 is the blank.
            log_probs_length: [B], in frames; later frames are ignored.
        """
        best = log_probs.argmax(dim=-1).cpu()
        return [
            [token for token in torch.unique_consecutive(row[:length]).tolist() if token != BLANK]
            for row, length in zip(best, log_probs_length.tolist(), strict=True)
        ]
