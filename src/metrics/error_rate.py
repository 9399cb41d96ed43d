"""Error rates by edit distance: the common part of WER and CER."""

from abc import abstractmethod
from collections.abc import Mapping

import jiwer

from src.metrics.base import Metric, ratio
from src.metrics.normalization import build_normalization

Alignment = jiwer.WordOutput | jiwer.CharacterOutput
ERRORS = ("substitutions", "deletions", "insertions")


class ErrorRate(Metric):
    """(substitutions + deletions + insertions) / reference length.

    The value over a corpus is all errors over the whole reference length, not a mean of the
    utterances' rates. The rate is 0 where both texts are empty, and infinite for insertions into
    an empty reference.

    Args:
        prediction: batch key of the hypotheses, so that several decoders can be scored side by
            side.
        normalization: of references and hypotheses. `own`: that of the run's text encoder, with
            which references become targets. `none`: references as they stand in the manifest.
            `whisper_english`: Whisper's normaliser for both, from the manifest's text.

    Raises:
        ValueError: another normalization, or its package is missing.
    """

    values = ("", *ERRORS, "reference_length")
    higher_is_better = False

    def __init__(self, prediction: str = "prediction", normalization: str = "own"):
        super().__init__()
        self.normalization, self.normalize = normalization, build_normalization(normalization)
        self.prediction = prediction
        self.columns = ("target", prediction)

    @abstractmethod
    def align(self, reference: str, hypothesis: str) -> Alignment:
        """Alignment of an utterance, by words or by characters."""

    def update(
        self, text: list[str], raw_text: list[str] | None = None, **batch
    ) -> list[float | None]:
        """Add a batch.

        Args:
            text: references, normalised by the text encoder.
            raw_text: references as they stand in the manifest; None: as `text`.
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
        references = text if self.normalization == "own" or raw_text is None else raw_text
        return [
            self.score(self.align(self.normalize(reference), self.normalize(hypothesis)))
            for reference, hypothesis in zip(references, batch[self.prediction], strict=True)
        ]

    def fraction(self, score: float, row: Mapping[str, str]) -> tuple[float, float]:
        """Errors and reference length of an utterance, counted anew in the texts of its row.

        Args:
            score: not used: it is rounded, and infinite for an empty reference.
            row: with the columns `target` and that of the hypotheses, and `raw_text` where the
                reference is another one before its normalisation.

        Raises:
            ValueError: one of them is missing.
        """
        for column in self.columns:
            if row.get(column) is None:
                raise ValueError(f"no column {column}, of which {type(self).__name__} is computed.")
        reference, hypothesis = (row[column] for column in self.columns)
        if self.normalization != "own":
            reference = row.get("raw_text") or reference
        alignment = self.align(self.normalize(reference), self.normalize(hypothesis))
        errors = sum(getattr(alignment, kind) for kind in ERRORS)
        return errors, reference_length(alignment)

    def score(self, alignment: Alignment) -> float:
        """The error rate of an utterance, whose counts are added to those of the corpus."""
        counts = {kind: getattr(alignment, kind) for kind in ERRORS}
        length = reference_length(alignment)
        for kind, count in counts.items():
            self.add(kind, count)
        self.add("reference_length", length)
        return ratio(sum(counts.values()), length)

    def compute(self) -> dict[str, float]:
        """The error rate of the corpus and the counts that it is made of; none if it is empty."""
        if "reference_length" not in self.terms:
            return {}
        counts = {kind: self.total(kind) for kind in self.values[1:]}
        errors = sum(counts[kind] for kind in ERRORS)
        return {"": ratio(errors, counts["reference_length"]), **counts}


def reference_length(alignment: Alignment) -> int:
    """Number of words or characters of the reference."""
    return alignment.hits + alignment.substitutions + alignment.deletions
