import math
import random

import pytest
import torch

from src.metrics.base import Metric
from src.metrics.masked_prediction import CodebookUse
from src.metrics.mean import BatchMean
from src.metrics.sum import BatchSum
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


def new_tracker():
    return MetricTracker({"loss": BatchMean("loss"), "WER": WER()})


def test_values_do_not_depend_on_order_or_processes():
    whole = new_tracker()
    for batch in batches():
        whole.update(**batch)
    halves = [new_tracker() for _ in range(2)]
    for i, batch in enumerate(reversed(batches())):
        halves[i % 2].update(**batch)
    parts = iter([[dict(m.terms) for m in half.metrics.values()] for half in halves])
    gathered = list(zip(*parts, strict=True))
    for half in halves:
        answers = iter(gathered)
        half.share(lambda _, answers=answers: list(next(answers)))
        assert half.compute() == whole.compute()


def test_batch_mean_is_weighted_by_utterances():
    metric = BatchMean("loss")
    assert metric.update(id=["a"], loss=torch.tensor(1.0)) is None
    metric.update(id=["b", "c", "d"], loss=torch.tensor(5.0))
    metric.update(id=["e"])
    assert metric.compute()[""] == 4.0


def test_batch_mean_has_a_direction():
    assert BatchMean("loss").higher_is_better is False
    assert BatchMean("accuracy", higher_is_better=True).higher_is_better is True
    for key in ("", None, 3):
        with pytest.raises(ValueError, match="BatchMean.key"):
            BatchMean(key)


def test_batch_sum():
    metric = BatchSum("skipped")
    for batch in ({"skipped": 2}, {}, {"skipped": 3}):
        assert metric.update(**batch) is None
    assert metric.compute() == {"": 5.0}


def test_skipped_files_are_counted_even_in_empty_batches():
    tracker = MetricTracker({"WER": WER()})
    assert tracker.update(id=[], skipped=2) == []
    tracker.update(id=["a"], skipped=1, text=["a"], prediction=["a"])
    assert tracker.compute()["skipped_files"] == 3
    tracker.reset()
    assert "skipped_files" not in tracker.compute()


def test_names_are_those_of_the_values():
    tracker = new_tracker()
    tracker.update(id=["a"], text=["a"], prediction=["a"], loss=torch.tensor(0.5))
    assert tracker.names() == list(tracker.compute())


def test_scores_per_utterance():
    class Undefined(WER):
        def update(self, **batch):
            return [None, *super().update(**batch)[1:]]

    tracker = MetricTracker({"loss": BatchMean("loss"), "WER": WER(), "other": Undefined()})
    batch = {"text": ["a", "b c"], "prediction": ["a", "b"], "loss": torch.tensor(1.0)}
    rows = tracker.update(id=["x", "y"], **batch)
    assert rows == [{"WER": 0.0}, {"WER": 0.5, "other": 0.5}]


def test_wrong_number_of_scores_raises():
    class Wrong(WER):
        def update(self, **batch):
            return [0.0]

    with pytest.raises(ValueError, match="metric x: 1 scores, 2 utterances"):
        MetricTracker({"x": Wrong()}).update(id=["a", "b"])


def test_direction_by_name():
    tracker = MetricTracker(
        {"WER": WER(), "SNR": BatchMean("snr", higher_is_better=True), "codebook": CodebookUse(8)}
    )
    assert tracker.higher_is_better("WER") is False
    assert tracker.higher_is_better("SNR") is True
    assert tracker.higher_is_better("WER_substitutions") is None
    assert tracker.higher_is_better("codebook_coverage") is None


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([1.0, math.nan], math.nan),
        ([1.0, math.inf], math.inf),
        ([math.inf, -math.inf], math.nan),
        ([1e308, 1e308], math.inf),
        ([1e16, 1.0, -1e16], 1.0),
    ],
)
def test_sums_are_exact_or_not_finite(terms, expected):
    class Sum(Metric):
        def update(self, value, **_):
            self.add("sum", value)

        def compute(self):
            return {"": self.total("sum")}

    tracker = MetricTracker({"sum": Sum()})
    for value in terms:
        tracker.update(id=["a"], value=value)
    assert tracker.compute()["sum"] == pytest.approx(expected, nan_ok=True)
