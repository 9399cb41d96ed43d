import math

import pytest

from src.text_encoder.decoders.ngram_training import train_ngram

SENTENCES = ["the cat sat on the mat", "the dog sat", "a cat ate the dog", "the cat sat"]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one(order):
    model = train_ngram(SENTENCES, order)
    words = [ngram[0] for ngram in model.ngrams if len(ngram) == 1 and ngram[0] != "<s>"]
    contexts = [(), ("<s>",), ("the",), ("<s>", "the"), ("cat", "sat"), ("mat", "a"), ("<unk>",)]
    contexts += [("the", "cat", "sat"), ("never", "seen", "this")]
    for context in contexts:
        total = sum(math.exp(model.log_prob(word, context)) for word in words)
        assert total == pytest.approx(1.0, abs=1e-9)


def test_bigram_by_hand():
    # Singles: a 2, b 1, </s> 2: 5 in all of 3 kinds, over 4 with <unk>.
    model = train_ngram(["a b", "a"], order=2)
    single = {"a": (2 + 3 / 4) / 8, "b": (1 + 3 / 4) / 8, "x": (3 / 4) / 8}
    assert math.exp(model.log_prob("x", ())) == pytest.approx(single["x"])
    assert math.exp(model.log_prob("a", ())) == pytest.approx(single["a"])
    # After a: b once and the end once, 2 kinds.
    after_a = (1 + 2 * single["b"]) / (2 + 2)
    assert math.exp(model.log_prob("b", ("a",))) == pytest.approx(after_a)
    unseen = 2 * single["a"] / (2 + 2)
    assert math.exp(model.log_prob("a", ("a",))) == pytest.approx(unseen)


def test_seen_sentence_beats_a_shuffled_one():
    model = train_ngram(SENTENCES, 3)
    seen, shuffled = ["the", "cat", "sat"], ["sat", "the", "cat"]
    assert model.sentence_log_prob(seen) > model.sentence_log_prob(shuffled) + 1


@pytest.mark.parametrize(("texts", "order", "reason"), [([], 2, "no sentences"), (["a"], 0, "0")])
def test_errors(texts, order, reason):
    with pytest.raises(ValueError, match=reason):
        train_ngram(texts, order)
