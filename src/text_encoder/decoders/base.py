"""What a CTC decoder is."""

from abc import ABC, abstractmethod

from torch import Tensor

from src.text_encoder.base import TextEncoder

BLANK = 0


class CTCDecoder(ABC):
    """Turns the log-probabilities of frames into token ids."""

    @abstractmethod
    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[int]]:
        """Token ids of each utterance, without blanks.

        Args:
            log_probs: [B, T, V], natural logarithms; token 0 is the blank.
            log_probs_length: [B], frames of each utterance; later ones are not looked at.
        """

    def set_text_encoder(self, text_encoder: TextEncoder) -> None:  # noqa: B027
        """Learn how tokens make words; called once by the task, for decoders that need it."""
