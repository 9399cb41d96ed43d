"""All the metrics of one split, updated and computed together."""

from collections.abc import Callable

from src.metrics.base import Metric
from src.metrics.sum import BatchSum

SKIPPED = "skipped_files"


class MetricTracker:
    """Named metrics that see the same batches.

    Files that the dataset was allowed to skip are counted too, and reported if there are any.

    Args:
        metrics: name -> metric; a metric's further figures are called `<name>_<figure>`.
    """

    def __init__(self, metrics: dict[str, Metric]):
        self.metrics = {**metrics, SKIPPED: BatchSum("skipped")}

    def names(self) -> list[str]:
        """What compute() gives for certain."""
        return [
            figure_name(name, figure)
            for name, metric in self.metrics.items()
            for figure in metric.figures
            if name != SKIPPED
        ]

    def reset(self) -> None:
        """Forget everything."""
        for metric in self.metrics.values():
            metric.reset()

    def update(self, **batch) -> None:
        """Show one batch to every metric; of one with no item left, only the skipped count."""
        for name, metric in self.metrics.items():
            if batch["id"] or name == SKIPPED:
                metric.update(**batch)

    def share(self, gather: Callable[[list], list]) -> None:
        """Make every process hold the terms of all.

        Args:
            gather: takes a list in each process and returns all the lists joined.
        """
        for metric in self.metrics.values():
            parts = gather([dict(metric.terms)])
            metric.reset()
            for terms in parts:
                metric.merge(terms)

    def compute(self) -> dict[str, float]:
        """Name -> figure over all batches since the last reset."""
        figures = {
            figure_name(name, figure): value
            for name, metric in self.metrics.items()
            for figure, value in metric.compute().items()
        }
        if not figures[SKIPPED]:
            del figures[SKIPPED]
        return figures


def figure_name(metric: str, figure: str) -> str:
    """`WER`, `WER_substitutions`."""
    return f"{metric}_{figure}" if figure else metric
