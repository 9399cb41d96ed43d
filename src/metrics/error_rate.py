"""Error rates by edit distance: the common part of WER and CER."""

from abc import abstractmethod

import jiwer

from src.metrics.base import Metric, ratio

ERRORS = ("substitutions", "deletions", "insertions")


class ErrorRate(Metric):
    """(substitutions + deletions + insertions) / reference length.

    The value over a corpus is all errors over the whole reference length, not a mean of the
    utterances' rates. The rate is 0 where both texts are empty, and infinite for insertions into
    an empty reference.

    Args:
        prediction: batch key of the hypotheses, so that several decoders can be scored side by
            side.
    """

    values = ("", *ERRORS, "reference_length")
    higher_is_better = False

    def __init__(self, prediction: str = "prediction"):
        super().__init__()
        self.prediction = prediction

    @abstractmethod
    def align(self, reference: str, hypothesis: str) -> jiwer.WordOutput | jiwer.CharacterOutput:
        """Alignment of an utterance, by words or by characters."""

    def update(self, text: list[str], **batch) -> list[float | None]:
        """Add a batch.

        Args:
            text: references.
            batch: holds the hypotheses under the key given at construction.

        Returns:
            The error rate of each utterance.

        Raises:
            ValueError: the batch lacks that key.
        """
        if self.prediction not in batch:
            available = ", ".join(key for key in batch if key.startswith("prediction"))
            raise ValueError(
                f"{type(self).__name__}: prediction '{self.prediction}' is not in the batch, which "
                f"has {available or 'no predictions'}."
            )
        return [
            self.score(self.align(reference, hypothesis))
            for reference, hypothesis in zip(text, batch[self.prediction], strict=True)
        ]

    def score(self, alignment: jiwer.WordOutput | jiwer.CharacterOutput) -> float:
        """The error rate of an utterance, whose counts are added to those of the corpus."""
        counts = {kind: getattr(alignment, kind) for kind in ERRORS}
        length = alignment.hits + alignment.substitutions + alignment.deletions
        for kind, count in counts.items():
            self.add(kind, count)
        self.add("reference_length", length)
        return ratio(sum(counts.values()), length)

    def compute(self) -> dict[str, float]:
        """The error rate of the corpus and the counts that it is made of."""
        counts = {kind: self.total(kind) for kind in self.values[1:]}
        errors = sum(counts[kind] for kind in ERRORS)
        return {"": ratio(errors, counts["reference_length"]), **counts}
