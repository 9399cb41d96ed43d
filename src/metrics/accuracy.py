"""Accuracy of the classification of utterances."""

from src.metrics.base import Metric

LABEL = "label "  # begins the names of sums over the utterances of a class


class Accuracy(Metric):
    """Fraction of the utterances whose class is predicted correctly.

    `majority` is the accuracy of always predicting the most frequent class of the evaluation.
    """

    values = ("", "majority", "utterances")
    higher_is_better = True

    def update(self, label: list[str], prediction: list[str], **_) -> list[float | None]:
        """Add a batch.

        Args:
            label: classes of the utterances.
            prediction: their predicted classes.

        Returns:
            1 for each utterance that is classified correctly, and 0 for each other.
        """
        scores = [float(a == b) for a, b in zip(label, prediction, strict=True)]
        for own, score in zip(label, scores, strict=True):
            self.add("correct", score)
            self.add(f"{LABEL}{own}", 1)
        return list(scores)

    def compute(self) -> dict[str, float]:
        """The accuracy, that of the most frequent class, and their number; none without any."""
        counts = [self.total(name) for name in list(self.terms) if name.startswith(LABEL)]
        if not counts:
            return {}
        total = sum(counts)
        return {
            "": self.total("correct") / total,
            "majority": max(counts) / total,
            "utterances": total,
        }
