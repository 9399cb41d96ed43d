"""The mean of something that a batch holds, as a loss."""

from src.metrics.base import Metric, ratio


class BatchMean(Metric):
    """Mean of a scalar of the batch, weighted by the number of items in each batch.

    Args:
        key: the batch key.
    """

    def __init__(self, key: str):
        super().__init__()
        self.key = key

    def update(self, id: list[str], **batch) -> None:
        """Add one batch's value, if the batch holds it."""
        if self.key in batch:
            self.add("sum", float(batch[self.key]) * len(id))
            self.add("items", len(id))

    def compute(self) -> dict[str, float]:
        """The mean per item."""
        return {"": ratio(self.total("sum"), self.total("items"))}
