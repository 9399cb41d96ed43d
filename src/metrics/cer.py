"""Character error rate."""

import jiwer

from src.metrics.error_rate import ErrorRate
from src.metrics.wer import single_spaced


class CER(ErrorRate):
    """Character errors over reference characters, spaces included."""

    def align(self, reference: str, hypothesis: str) -> jiwer.CharacterOutput:
        """Character alignment of an utterance, by jiwer."""
        return align_characters(reference, hypothesis)


def align_characters(reference: str, hypothesis: str) -> jiwer.CharacterOutput:
    """Character alignment by jiwer; white space of any kind between two words is one character."""
    return jiwer.process_characters([single_spaced(reference)], [single_spaced(hypothesis)])
