"""Word error rate."""

import jiwer

from src.metrics.error_rate import ErrorRate


class WER(ErrorRate):
    """Word errors over reference words."""

    def align(self, reference: str, hypothesis: str) -> jiwer.WordOutput:
        """Word alignment of an utterance, by jiwer."""
        return jiwer.process_words([reference], [hypothesis])


def word_error_rate(references: list[str], hypotheses: list[str]) -> float:
    """WER of a set of utterances in percent.

    Args:
        references: of the utterances.
        hypotheses: in the same order.
    """
    metric = WER()
    metric.update(text=references, prediction=hypotheses)
    return 100 * metric.compute()[""]
