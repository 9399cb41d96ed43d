import tracemalloc
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from src.text_encoder.alignment import TokenSpan, align, words_of
from src.text_encoder.base import WORD_START
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.text_encoder.decoders.greedy import GreedyDecoder
from src.text_encoder.pieces import Pieces, best_combinations, cuts_in_pauses, in_pieces, joined

ENCODER = CharacterEncoder()


def log_probs_of(path, certainty=0.9):
    """[T, V] of a path with one character a frame, `_` for the blank."""
    ids = [0 if c == "_" else ENCODER.encode(c)[0] if c != " " else ENCODER.ids[" "] for c in path]
    rest = (1 - certainty) / (len(ENCODER) - 1)
    probs = torch.full((len(ids), len(ENCODER)), rest)
    probs[torch.arange(len(ids)), torch.tensor(ids)] = certainty
    return probs.log()


def test_tokens_have_the_frames_of_the_path():
    spans = align(log_probs_of("__aa_b_bb_"), ENCODER.encode("abb"), first=100)
    assert [(span.start, span.end) for span in spans] == [(102, 104), (105, 106), (107, 109)]
    assert [span.posterior for span in spans] == pytest.approx([0.9] * 3)
    assert align(log_probs_of("__"), []) == []


def test_words_have_the_times_of_their_tokens():
    path = "_" * 10 + "a__b" + "_" * 20 + " " + "_" * 20 + "cc" + "_ _" + "d" + "_" * 5
    tokens = [ENCODER.ids[c] for c in "ab cc d".replace("cc", "c")]
    words = words_of(align(log_probs_of(path), tokens), ENCODER.vocabulary, 0.04)
    assert [word.text for word in words] == ["ab", "c", "d"]
    times = [(9.5, 13.5), (54.5, 58), (58, 60.5)]  # c and d meet in the middle of the space
    assert [(word.start / 0.04, word.end / 0.04) for word in words] == [
        pytest.approx(pair) for pair in times
    ]
    assert all(word.confidence == pytest.approx(0.9) for word in words)


def test_confidence_is_that_of_the_least_certain_token():
    log_probs = log_probs_of("_a_b_")
    log_probs[3] = log_probs_of("b", 0.4)[0]
    (word,) = words_of(align(log_probs, ENCODER.encode("ab")), ENCODER.vocabulary, 0.04)
    assert word.confidence == pytest.approx(0.4)


def test_words_of_subwords():
    vocabulary = ["", f"{WORD_START}he", "llo", WORD_START, "a", f"{WORD_START}b"]
    spans = [TokenSpan(token, 20 * i, 20 * i + 1, 0.5) for i, token in enumerate([1, 2, 3, 4, 5])]
    words = words_of(spans, vocabulary, 0.04)
    assert [word.text for word in words] == ["hello", "a", "b"]
    assert [round(word.start / 0.04, 3) for word in words] == [0, 59.5, 79.5]


def test_pieces_are_cut_in_pauses():
    path = "ab_c" * 10 + "_" * 30 + "abc" * 10 + "_" * 40 + "ab"
    log_probs = log_probs_of(path)
    cuts = cuts_in_pauses(log_probs, 70)
    assert cuts[0] == 0 and cuts[-1] == len(path)
    assert max(b - a for a, b in pairwise(cuts)) <= 70
    assert all(path[cut - 1 : cut + 1] == "__" for cut in cuts[1:-1])


@pytest.mark.parametrize("decoder", [GreedyDecoder(), BeamSearchDecoder(4)])
def test_text_of_pieces_is_that_of_the_whole(decoder):
    path = ("a_b_ _b" + "_" * 20) * 30
    log_probs = log_probs_of(path)[None].repeat(2, 1, 1)
    length = torch.tensor([len(path), 300])
    outputs = {"log_probs": log_probs, "log_probs_length": length}
    pieces = in_pieces(outputs | {"windows": torch.tensor([10, 3])}, 2)
    assert len(pieces) > 1
    tokens = [decoder(p.outputs["log_probs"], p.outputs["log_probs_length"]) for p in pieces]
    assert joined(pieces, tokens, 2) == decoder(log_probs, length)
    assert in_pieces(outputs, 2)[0].outputs is outputs


def several(rng, size):
    """Hypotheses of a piece, the best first, among which many make equal texts with others."""
    own = {tuple(rng.integers(1, 3, rng.integers(0, 4)).tolist()): 0.0 for _ in range(size)}
    scores = sorted(rng.normal(-3, 2, len(own)).tolist(), reverse=True)
    return [(score, list(tokens)) for score, tokens in zip(scores, own, strict=True)]


def test_n_best_of_pieces_are_sums_over_all_combinations():
    rng = np.random.default_rng(0)
    found = [several(rng, 6) for _ in range(3)]
    parts = [Pieces({}, [0], [0]) for _ in found]
    sums = {}
    for chosen in product(*found):
        tokens = tuple(token for _, own in chosen for token in own)
        score = sum(score for score, _ in chosen)
        sums[tokens] = np.logaddexp(sums.get(tokens, -np.inf), score)
    expected = sorted(((score, list(tokens)) for tokens, score in sums.items()), reverse=True)
    (best,) = best_combinations(parts, [[own] for own in found], 1, 300)
    assert [tokens for _, tokens in best] == [tokens for _, tokens in expected]
    assert [score for score, _ in best] == pytest.approx([score for score, _ in expected])


def test_n_best_of_many_pieces_take_no_copies_of_the_whole():
    own = [(-0.01 * k, [1 + k % 2] * 200 + [k + 1]) for k in range(100)]
    parts = [Pieces({}, [0], [200 * k]) for k in range(20)]
    tracemalloc.start()
    (best,) = best_combinations(parts, [[own]] * len(parts), 1, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(best) == 100 and best[0][1] == 20 * own[0][1]
    assert peak < 60e6  # 10,000 pairs of 4,000 tokens would take 0.3 GB


def test_a_piece_without_hypotheses_leaves_the_others():
    own = [(-1.0, [1]), (-2.0, [2])]
    parts = [Pieces({}, [0, 1], [0, 0]), Pieces({}, [0], [5])]
    assert best_combinations(parts, [[own, []], [[]]], 2, 5) == [own, []]
