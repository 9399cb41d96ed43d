import random

import torch

from src.metrics.mean import BatchMean
from src.metrics.tracker import MetricTracker
from src.metrics.wer import WER


def batches():
    random.seed(0)
    return [
        {
            "id": ["x"] * n,
            "loss": torch.tensor(random.random()),
            "text": ["a b"] * n,
            "prediction": ["a"] * n,
        }
        for n in (1, 5, 2, 9, 3)
    ]


def test_no_order_and_no_sharing_changes_a_digit():
    whole = MetricTracker({"loss": BatchMean("loss"), "WER": WER()})
    for batch in batches():
        whole.update(**batch)
    halves = [MetricTracker({"loss": BatchMean("loss"), "WER": WER()}) for _ in range(2)]
    for i, batch in enumerate(reversed(batches())):
        halves[i % 2].update(**batch)

    merged = MetricTracker({"loss": BatchMean("loss"), "WER": WER()})
    for key, metric in merged.metrics.items():
        for half in halves:
            metric.merge(half.metrics[key].terms)
    assert merged.compute() == whole.compute()


def test_weighted_by_items():
    metric = BatchMean("loss")
    metric.update(id=["a"], loss=torch.tensor(1.0))
    metric.update(id=["b", "c", "d"], loss=torch.tensor(5.0))
    assert metric.compute()[""] == 4.0


def test_skipped_files_are_counted_even_in_empty_batches():
    tracker = MetricTracker({"WER": WER()})
    tracker.update(id=[], skipped=2)
    tracker.update(id=["a"], skipped=1, text=["a"], prediction=["a"])
    assert tracker.compute()["skipped_files"] == 3


def test_names_are_those_of_the_figures():
    tracker = MetricTracker({"WER": WER(), "loss": BatchMean("loss")})
    tracker.update(id=["a"], text=["a"], prediction=["a"], loss=torch.tensor(0.5))
    assert tracker.names() == list(tracker.compute())
