"""The metrics of one evaluation, updated and computed together."""

from collections.abc import Callable

from src.metrics.base import Metric
from src.metrics.sum import BatchSum

SKIPPED = "skipped_files"


class MetricTracker:
    """Named metrics that are updated with the same batches.

    Files that the dataset was allowed to skip are counted as well, and the count is part of
    `compute()` if it isn't 0. Values that are infinite or NaN are passed on as they are.

    Args:
        metrics: name -> metric. A further value of a metric is called `<name>_<suffix>`.
    """

    def __init__(self, metrics: dict[str, Metric]):
        self.metrics = {**metrics, SKIPPED: BatchSum("skipped")}

    def names(self) -> list[str]:
        """Keys that `compute()` returns where there are scores."""
        return [
            value_name(name, suffix)
            for name, metric in self.metrics.items()
            for suffix in metric.values
            if name != SKIPPED
        ]

    def further_values(self) -> set[str]:
        """Keys of `compute()` beside the main value of their metric, e.g. its counts."""
        return {
            value_name(name, suffix)
            for name, metric in self.metrics.items()
            for suffix in metric.values
            if suffix and "" in metric.values
        }

    def higher_is_better(self, name: str) -> bool | None:
        """Whether a larger value is better.

        Args:
            name: a key of `compute()`.

        Returns:
            None for values that can't choose the best checkpoint: the further values of a metric,
            and metrics without a direction.
        """
        return self.metrics[name].higher_is_better if name in self.metrics else None

    def normalizations(self) -> str:
        """Which metrics score texts in which normalisation, as a sentence; empty without texts."""
        names: dict[str, list[str]] = {}
        for name, metric in self.metrics.items():
            if metric.normalization:
                names.setdefault(metric.normalization, []).append(name)
        parts = (f"{kind} ({', '.join(own)})" for kind, own in names.items())
        return f"Normalization of texts: {', '.join(parts)}" if names else ""

    def reset(self) -> None:
        """Forget all batches."""
        for metric in self.metrics.values():
            metric.reset()

    def update(self, **batch) -> list[dict[str, float]]:
        """Add a batch to every metric; of an empty batch only the skipped files are counted.

        Returns:
            The scores of each utterance of `batch["id"]`, metric name -> score, without those that
            are undefined.

        Raises:
            ValueError: a metric returns more or fewer scores than there are utterances.
        """
        rows: list[dict[str, float]] = [{} for _ in batch["id"]]
        for name, metric in self.metrics.items():
            if not rows and name != SKIPPED:
                continue
            scores = metric.update(**batch)
            if scores is None:
                continue
            if len(scores) != len(rows):
                raise ValueError(f"metric {name}: {len(scores)} scores, {len(rows)} utterances.")
            for row, score in zip(rows, scores, strict=True):
                if score is not None:
                    row[name] = score
        return rows

    def share(self, gather: Callable[[list], list]) -> None:
        """Give every process the terms of all processes.

        Args:
            gather: called with a list in each process; returns all the lists joined.
        """
        for metric in self.metrics.values():
            parts = gather([dict(metric.terms)])
            metric.reset()
            for terms in parts:
                metric.merge(terms)

    def compute(self) -> dict[str, float]:
        """Name -> value over all batches since the last reset."""
        values = {
            value_name(name, suffix): value
            for name, metric in self.metrics.items()
            for suffix, value in metric.compute().items()
        }
        if not values[SKIPPED]:
            del values[SKIPPED]
        return values


def value_name(metric: str, suffix: str) -> str:
    """Full name of a value: `WER`, or `WER_substitutions` with a suffix."""
    return f"{metric}_{suffix}" if suffix else metric
