"""Base class of CTC decoders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor

from src.text_encoder.base import TextEncoder

BLANK = 0


class Search(ABC):
    """The search of a decoder in one stream, which goes on from step to step.

    Tokens at the beginning that can't change any more are taken off by `commit`, so that a search
    needs no more memory for an hour than for a minute.
    """

    @abstractmethod
    def advance(self, log_probs: Tensor) -> None:
        """Go on by frames [T, V] of log-probabilities on the CPU."""

    @abstractmethod
    def certain(self) -> list[int]:
        """Token ids with which every hypothesis begins, after those that were committed."""

    @abstractmethod
    def best(self) -> list[int]:
        """Token ids of the best hypothesis if the stream ends here, after the committed ones."""

    @abstractmethod
    def commit(self, count: int) -> None:
        """Take off the first `count` of the certain tokens."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that the search needs to go on, besides the words that were committed."""


class CTCDecoder(ABC):
    """Converts frame-wise log-probabilities to token ids."""

    @abstractmethod
    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[int]]:
        """Token ids of each utterance, without blanks.

        Args:
            log_probs: [B, T, V], natural logarithms; token 0 is the blank.
            log_probs_length: [B], in frames; later frames are ignored.
        """

    @abstractmethod
    def search(
        self, state: Mapping[str, Tensor] | None = None, words: Sequence[str] = ()
    ) -> Search:
        """The search in a new stream, or one that goes on.

        Args:
            state: of an earlier search, from `Search.state`; None: a new one.
            words: that were committed in it.
        """

    def set_text_encoder(self, text_encoder: TextEncoder) -> None:  # noqa: B027
        """Set the text encoder; called once by the task, for decoders that need the vocabulary."""
