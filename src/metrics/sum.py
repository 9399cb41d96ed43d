"""The sum of a number of each batch, such as the count of skipped files."""

from src.metrics.base import Metric


class BatchSum(Metric):
    """Sum over the batches of a number that each of them holds.

    Args:
        key: batch key of the number; batches without it add nothing.
    """

    def __init__(self, key: str):
        super().__init__()
        self.key = key

    def update(self, **batch) -> None:
        """Add a batch; the number belongs to no single utterance, so there are no scores."""
        self.add("sum", float(batch.get(self.key, 0)))

    def compute(self) -> dict[str, float]:
        """The sum."""
        return {"": self.total("sum")}
