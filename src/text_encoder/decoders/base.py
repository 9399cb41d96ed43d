"""Base class of CTC decoders."""

from abc import ABC, abstractmethod

from torch import Tensor

from src.text_encoder.base import TextEncoder

BLANK = 0


class CTCDecoder(ABC):
    """Converts frame-wise log-probabilities to token ids."""

    @abstractmethod
    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[int]]:
        """Token ids of each utterance, without blanks.

        Args:
            log_probs: [B, T, V], natural logarithms; token 0 is the blank.
            log_probs_length: [B], in frames; later frames are ignored.
        """

    def set_text_encoder(self, text_encoder: TextEncoder) -> None:  # noqa: B027
        """Set the text encoder; called once by the task, for decoders that need the vocabulary."""
