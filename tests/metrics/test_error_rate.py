import math
import random

import jiwer
import pytest

from src.metrics.cer import CER
from src.metrics.wer import WER

random.seed(0)
WORDS = ["the", "a", "cat", "dog", "house", "it's", "green", "runs", "far", "away"]


def sentence():
    return " ".join(random.choices(WORDS, k=random.randint(1, 9)))


PAIRS = [(sentence(), sentence() if random.random() < 0.9 else "") for _ in range(1000)]


@pytest.mark.parametrize("size", [1, 7, 64])
@pytest.mark.parametrize(("kind", "judge"), [(WER, jiwer.wer), (CER, jiwer.cer)])
def test_equals_jiwer_whatever_the_batch_size(size, kind, judge):
    metric = kind()
    for i in range(0, len(PAIRS), size):
        part = PAIRS[i : i + size]
        metric.update(text=[t for t, _ in part], prediction=[p for _, p in part], id=None)
    assert metric.compute()[""] == judge([t for t, _ in PAIRS], [p for _, p in PAIRS])


def test_kinds_of_errors_by_hand():
    metric = WER("beam")
    metric.update(text=["a b c d", "e"], beam=["a x c", "e f g"])
    assert metric.compute() == {
        "": 4 / 5,
        "substitutions": 1,
        "deletions": 1,
        "insertions": 2,
        "reference_length": 5,
    }


def test_no_mean_of_means():
    metric = WER()
    metric.update(text=["a"], prediction=["b"])
    metric.update(text=["a b c d e f g h i"], prediction=["a b c d e f g h i"])
    assert metric.compute()[""] == 0.1


def test_without_references():
    metric = WER()
    assert metric.compute()[""] == 0
    metric.update(text=[""], prediction=["a"])
    assert metric.compute()[""] == math.inf
