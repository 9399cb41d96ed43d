import math

import pytest

from src.text_encoder.decoders.ngram_training import discounts_of, train_ngram

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
    # Bigrams: <s> a 2, a b 1, a </s> 1, b </s> 1. The discounts are 0.5, 1 and 1.5.
    model = train_ngram(["a b", "a"], order=2)
    # Single words count by the different words before them: a 1, b 1, </s> 2, of 4 in all.
    # Discounts take 0.5 + 0.5 + 1 off, which goes to a, b, </s> and <unk> in equal parts.
    part = (2 / 4) / 4
    single = {"a": 0.5 / 4 + part, "b": 0.5 / 4 + part, "</s>": 1 / 4 + part, "x": part}
    for word, expected in single.items():
        assert math.exp(model.log_prob(word, ())) == pytest.approx(expected)
    # After a: b once and the end once, of 2.
    after_a = 0.5 / 2 + 1 / 2 * single["b"]
    assert math.exp(model.log_prob("b", ("a",))) == pytest.approx(after_a)
    assert math.exp(model.log_prob("a", ("a",))) == pytest.approx(1 / 2 * single["a"])
    # Bigrams with <s> count as they are: 2, less 1.
    first = 1 / 2 + 1 / 2 * single["a"]
    assert math.exp(model.log_prob("a", ("<s>",))) == pytest.approx(first)


def test_discounts():
    # n1 = 4, n2 = 2, n3 = 1, n4 = 1: y = 4 / (4 + 2 * 2).
    counts = [1, 1, 1, 1, 2, 2, 3, 4, 7]
    assert discounts_of(counts, 1) == pytest.approx((1 - 2 * 0.25, 2 - 3 * 0.25, 3 - 4 * 0.5))


@pytest.mark.parametrize("counts", [[1, 1, 3], [1] * 10 + [2] + [3] * 5])
def test_discounts_of_few_ngrams(counts, caplog):
    assert discounts_of(counts, 3) == (0.5, 1.0, 1.5)
    assert "3-grams: too few" in caplog.text


def test_seen_sentence_beats_a_shuffled_one():
    model = train_ngram(SENTENCES, 3)
    seen, shuffled = ["the", "cat", "sat"], ["sat", "the", "cat"]
    assert model.sentence_log_prob(seen) > model.sentence_log_prob(shuffled) + 1


@pytest.mark.parametrize(("texts", "order", "reason"), [([], 2, "no sentences"), (["a"], 0, "0")])
def test_errors(texts, order, reason):
    with pytest.raises(ValueError, match=reason):
        train_ngram(texts, order)


def test_a_discount_of_zero_leaves_nothing_to_the_lower_order():
    # Of the bigrams, n1 = n2 = 2 and n3 = 4: y = 2 / (2 + 2 * 2), D2 = 2 - 3 * y * 4 / 2 = 0.
    model = train_ngram(["a", "b", "b", *["c"] * 3, *["d"] * 3], order=2)
    assert model.ngrams[("b",)][1] == -99
    assert model.log_prob("</s>", ("b",)) == pytest.approx(0)
    assert model.log_prob("a", ("b",)) < -200
