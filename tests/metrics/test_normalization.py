import pytest

from src.metrics.cer import CER
from src.metrics.normalization import build_normalization
from src.metrics.wer import WER

BATCH = {
    "text": ["it's five colours", "a cat"],
    "raw_text": ["It's 5 colours.", "A cat"],
    "prediction": ["it is five colors", "a cat"],
}


def errors(metric):
    metric.update(**BATCH)
    return sum(metric.compute()[kind] for kind in ("substitutions", "deletions", "insertions"))


def test_own_normalization_scores_the_targets():
    assert errors(WER()) == 3 and WER().normalization == "own"


def test_none_scores_the_text_of_the_manifest():
    # It's 5 colours. -> it is five colors: three substitutions and an insertion; A -> a
    assert errors(WER(normalization="none")) == 5
    metric = WER(normalization="none")
    metric.update(text=["a b"], prediction=["a b"])
    assert metric.compute()[""] == 0


@pytest.mark.parametrize("kind", [WER, CER])
def test_whisper_normalization(kind):
    pytest.importorskip("whisper_normalizer")
    assert errors(kind(normalization="whisper_english")) == 0


@pytest.mark.parametrize("name", ["own", "none", "whisper_english"])
def test_fractions_of_a_table_are_those_of_the_metric(name):
    if name == "whisper_english":
        pytest.importorskip("whisper_normalizer")
    metric = WER(normalization=name)
    metric.update(**BATCH)
    rows = [
        {"target": text, "raw_text": raw, "prediction": prediction}
        for text, raw, prediction in zip(*BATCH.values(), strict=True)
    ]
    numerator, denominator = map(sum, zip(*(metric.fraction(0, row) for row in rows), strict=True))
    assert numerator / denominator == metric.compute()[""]


def test_unknown_normalization(monkeypatch):
    with pytest.raises(ValueError, match="normalization: 'x'; own, none or whisper_english"):
        build_normalization("x")
    monkeypatch.setitem(__import__("sys").modules, "whisper_normalizer.english", None)
    with pytest.raises(ValueError, match="needs `pip install whisper-normalizer`"):
        WER(normalization="whisper_english")
