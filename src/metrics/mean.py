"""The mean of a scalar of the batch, such as a loss."""

from src.metrics.base import Metric
from src.utils.options import refuse


class BatchMean(Metric):
    """Mean of a scalar of each batch, weighted by the number of utterances that it is of.

    These are all of the batch, or those named in `loss_id`.

    Args:
        key: batch key of the scalar; batches without it are ignored.
        higher_is_better: whether a larger mean is better.

    Raises:
        ValueError: the key is no name.
    """

    def __init__(self, key: str, higher_is_better: bool = False):
        super().__init__()
        if not isinstance(key, str) or not key:
            refuse("BatchMean.key", key, "the name of a key of the batch, e.g. loss")
        self.key, self.higher_is_better = key, higher_is_better

    def update(self, id: list[str], loss_id: list[str] | None = None, **batch) -> None:
        """Add a batch; the scalar belongs to no single utterance, so there are no scores.

        Args:
            id: names of the utterances.
            loss_id: names of those that the scalar is of; None: all.
            batch: holds the scalar under the key given at construction.
        """
        if self.key in batch:
            count = len(id if loss_id is None else loss_id)
            self.add("sum", float(batch[self.key]) * count)
            self.add("utterances", count)

    def compute(self) -> dict[str, float]:
        """The mean per utterance; none if there was no utterance."""
        count = self.total("utterances")
        return {"": self.total("sum") / count} if count else {}
