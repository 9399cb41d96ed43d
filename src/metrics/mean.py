"""The mean of a scalar of the batch, such as a loss."""

from src.metrics.base import Metric, ratio


class BatchMean(Metric):
    """Mean of a scalar of each batch, weighted by the number of utterances in the batch.

    Args:
        key: batch key of the scalar; batches without it are ignored.
        higher_is_better: whether a larger mean is better.
    """

    def __init__(self, key: str, higher_is_better: bool = False):
        super().__init__()
        self.key, self.higher_is_better = key, higher_is_better

    def update(self, id: list[str], **batch) -> None:
        """Add a batch; the scalar belongs to no single utterance, so there are no scores.

        Args:
            id: names of the utterances.
            batch: holds the scalar under the key given at construction.
        """
        if self.key in batch:
            self.add("sum", float(batch[self.key]) * len(id))
            self.add("utterances", len(id))

    def compute(self) -> dict[str, float]:
        """The mean per utterance."""
        return {"": ratio(self.total("sum"), self.total("utterances"))}
