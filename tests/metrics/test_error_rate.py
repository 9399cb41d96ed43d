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
@pytest.mark.parametrize(("kind", "reference"), [(WER, jiwer.wer), (CER, jiwer.cer)])
def test_equals_jiwer_for_any_batch_size(size, kind, reference):
    metric, scores = kind(), []
    for i in range(0, len(PAIRS), size):
        batch = PAIRS[i : i + size]
        scores += metric.update(text=[t for t, _ in batch], prediction=[p for _, p in batch])
    assert metric.compute()[""] == reference([t for t, _ in PAIRS], [p for _, p in PAIRS])
    assert scores == [reference(t, p) for t, p in PAIRS]


def test_counts_by_hand():
    metric = WER("beam")
    assert metric.update(text=["a b c d", "e"], beam=["a x c", "e f g"]) == [0.5, 2.0]
    assert metric.compute() == {
        "": 4 / 5,
        "substitutions": 1,
        "deletions": 1,
        "insertions": 2,
        "reference_length": 5,
    }


def test_characters_by_hand():
    metric = CER()
    assert metric.update(text=["abcd", "a b"], prediction=["abxd", "aab"]) == [0.25, 1 / 3]
    assert metric.compute()[""] == 2 / 7


def test_corpus_value_is_not_mean_of_utterances():
    metric = WER()
    metric.update(text=["a"], prediction=["b"])
    metric.update(text=["a b c d e f g h i"], prediction=["a b c d e f g h i"])
    assert metric.compute()[""] == 0.1


@pytest.mark.parametrize("kind", [WER, CER])
def test_utterance_score_equals_metric_of_single_utterance(kind):
    for text, prediction in PAIRS[:50]:
        metric = kind()
        (score,) = metric.update(text=[text], prediction=[prediction])
        assert metric.compute()[""] == score


def test_empty_references():
    metric = WER()
    assert metric.compute() == {} == metric.compute()  # of no utterance
    assert metric.update(text=["", ""], prediction=["", "a"]) == [0, math.inf]
    assert metric.compute()[""] == math.inf


def test_missing_hypotheses_raise():
    with pytest.raises(ValueError, match="'prediction_beam' is not in .* has prediction, predict"):
        WER("prediction_beam").update(text=["a"], prediction=["a"], prediction_x=["a"])


def test_lower_is_better():
    assert WER().higher_is_better is False and CER().higher_is_better is False


@pytest.mark.parametrize("space", ["\t", "\n", "\u00a0", " \u2009 "])
def test_white_space_of_any_kind_is_between_words(space):
    for text, prediction in ((f"a{space}b c ", "a b c"), ("a b c", f"a{space}b c ")):
        assert WER().update(text=[text], prediction=[prediction]) == [0]
        assert CER().update(text=[text], prediction=[prediction]) == [0]
        row = {"target": text, "prediction": prediction}
        assert WER().fraction(0, row) == (0, 3) and CER().fraction(0, row) == (0, 5)
