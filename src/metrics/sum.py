"""The sum of a number that a batch holds, as the count of skipped files."""

from src.metrics.base import Metric


class BatchSum(Metric):
    """Sum over the batches of a plain number.

    Args:
        key: the batch key; a batch without it adds nothing.
    """

    def __init__(self, key: str):
        super().__init__()
        self.key = key

    def update(self, **batch) -> None:
        """Add one batch's number."""
        self.add("sum", float(batch.get(self.key, 0)))

    def compute(self) -> dict[str, float]:
        """The sum."""
        return {"": self.total("sum")}
