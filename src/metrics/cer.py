"""Character error rate."""

import jiwer

from src.metrics.error_rate import ErrorRate


class CER(ErrorRate):
    """Character errors over reference characters, spaces included."""

    def align(self, reference: str, hypothesis: str) -> jiwer.CharacterOutput:
        """Character alignment of an utterance, by jiwer."""
        return jiwer.process_characters([reference], [hypothesis])
