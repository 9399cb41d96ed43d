"""Word error rate."""

import jiwer

from src.metrics.error_rate import ErrorRate


class WER(ErrorRate):
    """Word errors over reference words, for the whole corpus."""

    def process(self, text: list[str], prediction: list[str]) -> jiwer.WordOutput:
        """jiwer's alignment by words."""
        return jiwer.process_words(text, prediction)
