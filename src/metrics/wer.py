"""Word error rate."""

from itertools import zip_longest

import jiwer

from src.metrics.error_rate import ErrorRate
from src.utils.batch import BETWEEN_VOICES


class WER(ErrorRate):
    """Word errors over reference words."""

    def align(self, reference: str, hypothesis: str) -> jiwer.WordOutput:
        """Word alignment of an utterance, by jiwer."""
        return align_words([reference], [hypothesis])


class VoicesWER(WER):
    """Word errors over reference words of all voices of mixtures.

    Each voice is compared with the text of its own source, a missing one counts as silent; silent
    sources are left out. The texts of a mixture are joined by ` | `, in the order of the sources.

    Args:
        prediction: batch key of the hypotheses.
    """

    def __init__(self, prediction: str = "prediction"):
        super().__init__(prediction)

    def align(self, reference: str, hypothesis: str) -> jiwer.WordOutput:
        """Word alignment of all voices of a mixture, by jiwer."""
        references, hypotheses = (
            [voice.strip() for voice in text.split(BETWEEN_VOICES.strip())]
            for text in (reference, hypothesis)
        )
        pairs = zip_longest(references, hypotheses, fillvalue="")
        spoken = [pair for pair in pairs if pair[0]] or [("", "")]
        return align_words([own for own, _ in spoken], [heard for _, heard in spoken])


def align_words(references: list[str], hypotheses: list[str]) -> jiwer.WordOutput:
    """Word alignments by jiwer, of words between white space of any kind.

    Args:
        references: of the utterances.
        hypotheses: in the same order.
    """
    return jiwer.process_words(
        [single_spaced(text) for text in references], [single_spaced(text) for text in hypotheses]
    )


def single_spaced(text: str) -> str:
    """The text with single spaces between its words; jiwer takes a tab or newline for a letter."""
    return " ".join(text.split())


def word_error_rate(references: list[str], hypotheses: list[str]) -> float:
    """WER of a set of utterances in percent; 0 of none.

    Args:
        references: of the utterances.
        hypotheses: in the same order.
    """
    metric = WER()
    metric.update(text=references, prediction=hypotheses)
    return 100 * metric.compute().get("", 0.0)
