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
    earned = [scorer.bonus_of(node).item() for node in nodes]
    word = [0.5 * MODEL.log_prob(w, ("<s>",)) + 2.0 for w in ("b", "ba")]
    last = 0.5 * MODEL.log_prob("a", ("ba",)) + 2.0
    assert earned == pytest.approx([0.0, *word, 0.0, 0.0, last])
    end = scorer.end_bonus_of(np.concatenate(nodes[-2:]))
    expected = [0.5 * MODEL.end_log_prob((word,)) for word in ("ba", "a")]
    assert end.tolist() == pytest.approx(expected)


def test_subwords_start_words_too():
    scorer = WordScorer(MODEL, ["", "▁ba", "a", "▁"], PrefixTrie(1, 4), 1.0, 0.0)
    assert scorer.starts_word.tolist() == [False, True, False, True]
