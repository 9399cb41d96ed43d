"""The edit distance that WER and CER share, counted by jiwer."""

from src.metrics.base import Metric, ratio


class ErrorRate(Metric):
    """(substitutions + deletions + insertions) / reference length, over the corpus.

    Args:
        prediction: the batch key that holds the hypotheses, so that several decoders can be
            scored side by side.
    """

    figures = ("", "substitutions", "deletions", "insertions", "reference_length")

    def __init__(self, prediction: str = "prediction"):
        super().__init__()
        self.prediction = prediction

    def process(self, text: list[str], prediction: list[str]):
        """jiwer's alignment of the texts, by words or by characters."""
        raise NotImplementedError

    def update(self, text: list[str], **batch) -> None:
        """Add the edits of one batch.

        Args:
            text: the references.
            batch: holds the hypotheses under the key given at construction.
        """
        counts = self.process(list(text), list(batch[self.prediction]))
        for kind in self.figures[1:4]:
            self.add(kind, getattr(counts, kind))
        self.add("reference_length", counts.hits + counts.substitutions + counts.deletions)

    def compute(self) -> dict[str, float]:
        """The rate, and what it is made of."""
        counts = {kind: self.total(kind) for kind in self.figures[1:]}
        errors = counts["substitutions"] + counts["deletions"] + counts["insertions"]
        return {"": ratio(errors, counts["reference_length"]), **counts}
