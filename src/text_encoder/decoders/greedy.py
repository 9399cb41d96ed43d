"""Greedy (best path) CTC decoding."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from src.text_encoder.decoders.base import BLANK, CTCDecoder, Search


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

    def search(
        self, state: Mapping[str, Tensor] | None = None, words: Sequence[str] = ()
    ) -> "GreedySearch":
        """The search in a new stream, or one that goes on with its `state`."""
        return GreedySearch(state)


class GreedySearch(Search):
    """The best path of a stream; its tokens never change.

    Args:
        state: of an earlier search; None: a new one.
    """

    def __init__(self, state: Mapping[str, Tensor] | None = None):
        self.tokens: list[int] = [] if state is None else state["tokens"].tolist()
        self.last = BLANK if state is None else int(state["last"])

    def advance(self, log_probs: Tensor) -> None:
        """Go on by frames [T, V]."""
        for token in log_probs.argmax(-1).tolist():
            if token not in (BLANK, self.last):
                self.tokens.append(token)
            self.last = token

    def certain(self) -> list[int]:
        """All tokens that aren't committed."""
        return self.tokens

    def best(self) -> list[int]:
        """All tokens that aren't committed."""
        return self.tokens

    def commit(self, count: int) -> None:
        """Take off the first tokens."""
        del self.tokens[:count]

    def state(self) -> dict[str, Tensor]:
        """The tokens, and the one of the last frame."""
        return {
            "tokens": torch.tensor(self.tokens, dtype=torch.int64),
            "last": torch.tensor(self.last),
        }
