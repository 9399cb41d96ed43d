import numpy as np
import pytest

from src.text_encoder.decoders.ngram_training import train_ngram
from src.text_encoder.decoders.prefix_trie import PrefixTrie
from src.text_encoder.decoders.word_scorer import WordScorer

MODEL = train_ngram(["a ba", "ba a"], order=2)


def test_score_of_incomplete_word():
    trie = PrefixTrie(1, 4)
    scorer = WordScorer(MODEL, ["", " ", "a", "b"], trie, alpha=0.5, beta=2.0)
    nodes = [np.array([0])]
    for token in (3, 2, 1, 1, 2):  # "ba  a"
        nodes.append(trie.extend(nodes[-1], np.array([token])))
    earned = [scorer.scores_of(node)[0].item() for node in nodes]
    word = [0.5 * MODEL.log_prob(w, ("<s>",)) + 2.0 for w in ("b", "ba")]
    last = 0.5 * MODEL.log_prob("a", ("ba",)) + 2.0
    assert earned == pytest.approx([0.0, *word, 0.0, 0.0, last])
    end = scorer.end_bonus_of(np.concatenate(nodes[-2:]))
    expected = [0.5 * MODEL.end_log_prob((word,)) for word in ("ba", "a")]
    assert end.tolist() == pytest.approx(expected)


def test_subwords_start_words_too():
    scorer = WordScorer(MODEL, ["", "▁ba", "a", "▁"], PrefixTrie(1, 4), 1.0, 0.0)
    assert scorer.starts_word.tolist() == [False, True, False, True]


def test_promise_of_a_hotword():
    vocabulary = ["", " ", "a", "b"]
    trie = PrefixTrie(1, 4)
    scorer = WordScorer(None, vocabulary, trie, 0.5, 2.0, hotwords=["bab", "ab"], boost=6.0)
    nodes = [np.array([0])]
    for token in (3, 2, 3, 1, 3, 3):  # "bab bb"
        nodes.append(trie.extend(nodes[-1], np.array([token])))
    bonus, promise = scorer.scores_of(np.concatenate(nodes))
    assert promise.tolist() == pytest.approx([0, 2, 4, 6, 0, 2, 0])
    assert bonus.tolist() == [0, 0, 0, 6, 0, 0, 0]
    assert scorer.end_bonus_of(np.concatenate(nodes)).tolist() == [0] * 7
