"""The best token of every frame."""

import torch
from torch import Tensor

from src.text_encoder.decoders.base import BLANK, CTCDecoder


class GreedyDecoder(CTCDecoder):
    """Takes the most probable token of each frame, merges repeats, drops blanks."""

    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[int]]:
        """Token ids of each utterance; log_probs [B, T, V], log_probs_length [B]."""
        best = log_probs.argmax(dim=-1).cpu()
        return [
            [token for token in torch.unique_consecutive(row[:length]).tolist() if token != BLANK]
            for row, length in zip(best, log_probs_length.tolist(), strict=True)
        ]
