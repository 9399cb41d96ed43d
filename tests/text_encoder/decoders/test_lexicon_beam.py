"""Beam search with a lexicon, against sums over all alignments and against flashlight-text."""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from src.text_encoder.base import TextEncoder
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.text_encoder.decoders.ngram_training import train_ngram
from tests.text_encoder.decoders.brute_force import all_sequences, log_probs

MODEL = train_ngram(["a ba", "ba a a", "ab a", "a a", "ba ab"], order=3)
WORDS = {"a", "ba", "ab"}
LETTERS = CharacterEncoder(alphabet=" ab")
ALPHA, BETA = 0.5, 1.0


class Pieces(TextEncoder):
    """Subwords, each word with one spelling."""

    def __init__(self):
        super().__init__(["▁a", "▁b", "a", "b"], None)

    def encode(self, text):
        return {"a": [1], "ba": [2, 3], "ab": [1, 4], "bb": [2, 4]}[text]

    def describe(self):
        return {}


def decoder(size, encoder=LETTERS, lexicon="model", **options):
    built = BeamSearchDecoder(
        size, language_model=MODEL, alpha=ALPHA, beta=BETA, lexicon=lexicon, **options
    )
    built.set_text_encoder(encoder)
    return built


def expected_texts(frames, allowed, bonus=None):
    """Text -> score, by the definition; frames [T, V]."""
    total = defaultdict(float)
    for tokens, log_prob in all_sequences(frames).items():
        text = allowed(list(tokens))
        if text is not None:
            total[text] += math.exp(log_prob)
    scores = {}
    for text, prob in total.items():
        words = text.split()
        scores[text] = math.log(prob) + ALPHA * MODEL.sentence_log_prob(words) + BETA * len(words)
        scores[text] += sum((bonus or {}).get(word, 0.0) for word in words)
    return scores


def in_letters(words):
    def allowed(tokens):
        text = LETTERS.decode(tokens)
        return text if set(text.split()) <= words else None

    return allowed


def in_pieces(tokens):
    text = Pieces().decode(tokens)
    if not set(text.split()) <= WORDS:
        return None
    spelled = [token for word in text.split() for token in Pieces().encode(word)]
    return text if spelled == tokens else None


def texts_of(hypotheses, encoder):
    found = {encoder.decode(tokens): score for score, tokens in hypotheses}
    assert len(found) == len(hypotheses)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_sums_all_alignments_of_letters(seed):
    frames, lengths = log_probs(3, 7, 4, seed), [7, 4, 0]
    result = decoder(1000).n_best(frames, torch.tensor(lengths), 1000)
    for item, length, hypotheses in zip(frames, lengths, result, strict=True):
        expected = expected_texts(item[:length], in_letters(WORDS))
        assert texts_of(hypotheses, LETTERS) == pytest.approx(expected, abs=1e-9)
        scores = [score for score, _ in hypotheses]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("seed", range(4))
def test_sums_all_alignments_of_subwords(seed):
    frames = log_probs(2, 6, 5, seed)
    result = decoder(1000, Pieces()).n_best(frames, torch.tensor([6, 5]), 1000)
    for item, length, hypotheses in zip(frames, (6, 5), result, strict=True):
        expected = expected_texts(item[:length], in_pieces)
        found = texts_of(hypotheses, Pieces())
        assert {k: found[k] for k in expected} == pytest.approx(expected, abs=1e-9)
        assert set(found) == set(expected)


def test_hotwords_are_added_to_the_lexicon():
    frames = log_probs(1, 6, 4, seed=5)
    built = decoder(1000, hotwords=["bb", "ab"], hotword_boost=3.0)
    found = texts_of(built.n_best(frames, torch.tensor([6]), 1000)[0], LETTERS)
    bonus = {"bb": 3.0, "ab": 3.0}
    expected = expected_texts(frames[0], in_letters(WORDS | {"bb"}), bonus)
    assert found == pytest.approx(expected, abs=1e-9)


def test_pruned_hypothesis_is_merged_when_it_reappears():
    for seed in range(20):
        frames = log_probs(1, 9, 4, seed)
        truth = texts_of(decoder(2000).n_best(frames, torch.tensor([9]), 2000)[0], LETTERS)
        for size in (8, 16, 40):
            found = texts_of(decoder(size).n_best(frames, torch.tensor([9]), 100)[0], LETTERS)
            assert all(score <= truth[text] + 1e-9 for text, score in found.items())


def test_does_not_depend_on_neighbours_or_padding():
    frames = log_probs(5, 40, 4, seed=1)
    frames[2] = np.log(1 / 4)  # nothing but ties
    lengths = torch.tensor([40, 13, 25, 0, 31])
    for threshold in (None, -2.0):
        built = decoder(12, token_threshold=threshold)
        together = built.n_best(frames, lengths, 12)
        for i, length in enumerate(lengths.tolist()):
            alone = built.n_best(frames[i : i + 1, :length], lengths[i : i + 1], 12)[0]
            assert [tokens for _, tokens in alone] == [tokens for _, tokens in together[i]]
            assert [s for s, _ in alone] == pytest.approx([s for s, _ in together[i]])


def test_incomplete_words_are_left_out():
    # "b" begins a word, but there is only one frame.
    frames = torch.tensor([[[1e-9, 1e-9, 1e-9, 1.0]]]).log()
    assert decoder(1)(frames, torch.tensor([1])) == [[]]


def test_nothing_is_possible():
    frames = torch.full((2, 3, 4), -math.inf)
    frames[1, :, 0] = 0.0
    result = decoder(10).n_best(frames, torch.tensor([3, 3]), 5)
    assert result[0] == []
    assert [tokens for _, tokens in result[1]] == [[]]


def test_only_whole_utterances():
    with pytest.raises(ValueError, match="lexicon: 'model'; null in a stream"):
        decoder(10).search()


def test_many_arcs_and_a_word_list(tmp_path):
    """Words of 40 different first letters, which are looked up by token."""
    letters = "".join(chr(0x3B1 + i) for i in range(24)) + "abcdefghijklmnop"
    encoder = CharacterEncoder(alphabet=" " + letters)
    words = [a + b for a, b in zip(letters, letters[1:] + letters[:1], strict=True)]
    (tmp_path / "words.txt").write_text("\n".join(words), encoding="utf-8")
    built = BeamSearchDecoder(30, lexicon=tmp_path / "words.txt")
    built.set_text_encoder(encoder)
    text = f"{words[3]} {words[30]} {words[3]}"
    frames = torch.nn.functional.one_hot(torch.tensor(encoder.encode(text)), 42) * 9.0
    noisy = frames + torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    tokens = built(noisy.log_softmax(-1)[None], torch.tensor([len(frames)]))[0]
    assert encoder.decode(tokens) == text


@pytest.mark.parametrize("size", [5, 20, 100])
@pytest.mark.parametrize("encoder", [LETTERS, Pieces()], ids=["letters", "subwords"])
def test_equals_flashlight(size, encoder, tmp_path):
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    from argparse import Namespace

    from scripts.benchmark_beam_search import FlashlightWithWords, Speech

    frames = log_probs(20, 30, encoder.vocab_size, seed=2, scale=3.0).float()
    if encoder is not LETTERS:
        # Flashlight loses a word if its last token lasts two frames, so that tokens don't here.
        frames[:, 1::2, 1:] = -1e4
    speech = Speech(encoder, MODEL, list(frames))
    options = Namespace(beam_size=size, alpha=ALPHA, beta=BETA, language_model=None)
    theirs = FlashlightWithWords(speech, options, tmp_path)
    expected = theirs([theirs.prepare(one).contiguous() for one in frames])
    found = decoder(size, encoder).n_best(frames, torch.full((20,), 30), 1)
    for (score, text), ((own, tokens),) in zip(expected, found, strict=True):
        assert encoder.decode(tokens) == text
        assert own == pytest.approx(score, abs=1e-3)
