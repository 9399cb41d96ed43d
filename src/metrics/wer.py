"""Word error rate."""

import jiwer

from src.metrics.error_rate import ErrorRate


class WER(ErrorRate):
    """Word errors over reference words."""

    def align(self, reference: str, hypothesis: str) -> jiwer.WordOutput:
        """Word alignment of an utterance, by jiwer."""
        return jiwer.process_words([reference], [hypothesis])
