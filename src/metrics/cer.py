"""Character error rate."""

import jiwer

from src.metrics.error_rate import ErrorRate


class CER(ErrorRate):
    """Character errors over reference characters (spaces count), for the whole corpus."""

    def process(self, text: list[str], prediction: list[str]) -> jiwer.CharacterOutput:
        """jiwer's alignment by characters."""
        return jiwer.process_characters(text, prediction)
