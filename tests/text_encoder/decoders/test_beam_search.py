from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch

from src.text_encoder.base import TextEncoder
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.text_encoder.decoders.ngram_training import train_ngram
from src.text_encoder.phonemes import PhonemeEncoder
from tests.text_encoder.decoders.brute_force import all_sequences, best_first, log_probs

FIXTURE = Path(__file__).parents[2] / "fixtures" / "flashlight_beam_search.npz"
MODEL = train_ngram(["a ba", "ba a a", "b ab", "a a"], order=2)


def assert_same(result, expected, tolerance=1e-9):
    assert len(result) == len(expected)
    for (score, tokens), (wanted, sequence) in zip(result, expected, strict=True):
        assert tokens == sequence
        assert score == pytest.approx(wanted, abs=tolerance)


@pytest.mark.parametrize("seed", range(5))
def test_sums_all_alignments(seed):
    frames, lengths = log_probs(3, 6, 4, seed), [6, 4, 1]
    result = BeamSearchDecoder(10_000).n_best(frames, torch.tensor(lengths), 10_000)
    for item, length, hypotheses in zip(frames, lengths, result, strict=True):
        assert_same(hypotheses, best_first(all_sequences(item[:length])))


def test_best_sequence_beats_the_best_path():
    frames = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    result = BeamSearchDecoder().n_best(frames, torch.tensor([2]), 2)
    assert_same(result[0], [(np.log(0.64), [1]), (np.log(0.36), [])], 1e-6)


def test_pruned_prefix_is_merged_when_it_reappears():
    # [1, 2] and [1, 2, 1] may live on while [1] or [1, 2] falls out of a small beam and returns.
    # No sequence's score may then exceed its true one, and none may come out twice.
    for seed in range(30):
        frames = log_probs(1, 7, 3, seed)
        truth = all_sequences(frames[0])
        result = BeamSearchDecoder(4).n_best(frames, torch.tensor([7]), 100)[0]
        assert len({tuple(tokens) for _, tokens in result}) == len(result)
        assert all(score <= truth[tuple(tokens)] + 1e-9 for score, tokens in result)


def test_does_not_depend_on_neighbours_or_padding():
    frames = log_probs(5, 40, 8, seed=1)
    frames[2] = np.log(1 / 8)  # nothing but ties
    lengths = torch.tensor([40, 13, 25, 0, 31])
    for threshold in (None, -3.0):
        decoder = BeamSearchDecoder(20, threshold)
        together = decoder.n_best(frames, lengths, 20)
        for i, length in enumerate(lengths.tolist()):
            alone = decoder.n_best(frames[i : i + 1, :length], lengths[i : i + 1], 20)
            assert alone[0] == together[i]


def test_best_is_the_first_of_n_best():
    frames, lengths = log_probs(2, 20, 5, seed=2), torch.tensor([20, 9])
    decoder = BeamSearchDecoder(10)
    n_best = decoder.n_best(frames, lengths, 3)
    assert decoder(frames, lengths) == [hypotheses[0][1] for hypotheses in n_best]
    assert all(len(hypotheses) == 3 for hypotheses in n_best)


def test_token_threshold_prunes_tokens():
    frames = torch.tensor([[[0.5, 0.4, 0.1], [0.5, 0.1, 0.4]]]).log()
    result = BeamSearchDecoder(100, np.log(0.2)).n_best(frames, torch.tensor([2]), 100)[0]
    # [1]: 1 then blank, or 1 lasting; [2]: blank then 2; [1, 2]; and the empty sequence.
    expected = {(1,): 0.4 * 0.5 + 0.4 * 0.1, (2,): 0.5 * 0.4, (1, 2): 0.16, (): 0.25}
    assert_same(result, best_first({k: np.log(p) for k, p in expected.items()}), 1e-6)


def test_low_threshold_prunes_nothing():
    frames, lengths = log_probs(3, 30, 6, seed=3), torch.tensor([30, 20, 10])
    kept = BeamSearchDecoder(15, -1e9).n_best(frames, lengths, 15)
    assert kept == BeamSearchDecoder(15).n_best(frames, lengths, 15)


def test_ties_do_not_widen_the_beam():
    frames = torch.full((2, 5, 4), np.log(1 / 4))
    result = BeamSearchDecoder(3).n_best(frames, torch.tensor([5, 2]), 100)
    assert all(1 <= len(hypotheses) <= 3 for hypotheses in result)


def test_impossible_frames_leave_no_hypothesis():
    frames = torch.full((1, 2, 3), -torch.inf)
    assert BeamSearchDecoder()(frames, torch.tensor([2])) == [[]]


def with_words(scores, encoder, alpha, beta):
    """Deep Speech 2's score of every sequence, by its definition."""
    result = {}
    for tokens, score in scores.items():
        words = encoder.decode(list(tokens)).split()
        result[tokens] = score + alpha * MODEL.sentence_log_prob(words) + beta * len(words)
    return result


class Pieces(TextEncoder):
    def encode(self, text):
        raise NotImplementedError

    def describe(self):
        return {}


@pytest.mark.parametrize(
    "encoder", [CharacterEncoder(alphabet=" ab"), Pieces(["▁", "▁ba", "a"], None)]
)
@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 1.5), (0.0, -0.7), (1.0, 0.0)])
def test_language_model_against_its_definition(encoder, alpha, beta):
    frames, lengths = log_probs(2, 6, 4, seed=4), [6, 5]
    decoder = BeamSearchDecoder(10_000, language_model=MODEL, alpha=alpha, beta=beta)
    decoder.set_text_encoder(encoder)
    result = decoder.n_best(frames, torch.tensor(lengths), 10_000)
    for item, length, hypotheses in zip(frames, lengths, result, strict=True):
        wanted = with_words(all_sequences(item[:length]), encoder, alpha, beta)
        assert len(hypotheses) == len(wanted)
        for score, tokens in hypotheses:
            assert score == pytest.approx(wanted[tuple(tokens)], abs=1e-9)
        assert hypotheses[0][0] == pytest.approx(max(wanted.values()), abs=1e-9)


@pytest.mark.parametrize("model", [None, MODEL])
def test_hotwords_against_their_definition(model):
    encoder = CharacterEncoder(alphabet=" ab")
    frames, lengths = log_probs(2, 6, 4, seed=7), [6, 5]
    decoder = BeamSearchDecoder(
        10_000, None, model, alpha=0.6, beta=0.4, hotwords=["ab", "ba a"], hotword_boost=3.0
    )
    decoder.set_text_encoder(encoder)
    result = decoder.n_best(frames, torch.tensor(lengths), 10_000)
    for item, length, hypotheses in zip(frames, lengths, result, strict=True):
        scores = all_sequences(item[:length])
        wanted = with_words(scores, encoder, 0.6, 0.4) if model else scores
        assert len(hypotheses) == len(wanted)
        for score, tokens in hypotheses:
            words = encoder.decode(tokens).split()
            boost = 3.0 * sum(word in ("ab", "ba", "a") for word in words)
            assert score == pytest.approx(wanted[tuple(tokens)] + boost, abs=1e-9)


def test_hotword_survives_a_narrow_beam():
    encoder = CharacterEncoder("en")
    spoken = torch.tensor([encoder.encode("hear katrin now")])
    frames = torch.nn.functional.one_hot(spoken, 29) * 8.0
    frames[0, 5, encoder.encode("c")[0]] = 8.3
    frames[0, 9, encoder.encode("e")[0]] = 9.0
    frames, length = frames.log_softmax(dim=-1), torch.tensor([spoken.shape[1]])
    for hotwords, expected in (([], "hear catren now"), (["Katrin"], "hear katrin now")):
        decoder = BeamSearchDecoder(2, hotwords=hotwords)
        decoder.set_text_encoder(encoder)
        assert encoder.decode(decoder(frames, length)[0]) == expected
        search = decoder.search()
        for frame in frames[0].split(3):
            search.advance(frame)
        assert encoder.decode(search.best()) == expected


def test_hotword_errors():
    with pytest.raises(ValueError, match=r"hotwords: 'anna'; a list of words\."):
        BeamSearchDecoder(hotwords="anna")
    with pytest.raises(ValueError, match="the character 'ж' is not in the vocabulary"):
        BeamSearchDecoder(hotwords=["ж"]).set_text_encoder(CharacterEncoder("en"))
    with pytest.raises(ValueError, match="hotwords: only for a vocabulary with spaces"):
        BeamSearchDecoder(hotwords=["a"]).set_text_encoder(Pieces(["a", "b"], None))
    with pytest.raises(ValueError, match="language_model: only for a vocabulary with spaces"):
        BeamSearchDecoder(language_model=MODEL).set_text_encoder(Pieces(["a", "b"], None))
    with pytest.raises(ValueError, match="needs set_text_encoder"):
        BeamSearchDecoder(hotwords=["a"])(log_probs(1, 3, 4, seed=5), torch.tensor([3]))


def test_language_model_resolves_similar_words(tmp_path):
    train_ngram(["the cat sat"] * 5, order=2).write_arpa(tmp_path / "lm.arpa")
    encoder = CharacterEncoder("en")
    spoken = torch.tensor([encoder.encode("the kat sat")])
    frames = torch.nn.functional.one_hot(spoken, 29) * 8.0
    frames[0, 4, encoder.encode("c")[0]] = 7.5
    frames, length = frames.log_softmax(dim=-1), torch.tensor([spoken.shape[1]])
    decoder = BeamSearchDecoder(language_model=tmp_path / "lm.arpa")
    decoder.set_text_encoder(encoder)
    assert encoder.decode(BeamSearchDecoder()(frames, length)[0]) == "the kat sat"
    assert encoder.decode(decoder(frames, length)[0]) == "the cat sat"


def test_errors():
    frames = log_probs(1, 3, 4, seed=5)
    with pytest.raises(ValueError, match="beam_size: 0; a whole number"):
        BeamSearchDecoder(0)
    with pytest.raises(ValueError, match=r"beam_size: 1\.5; a whole number"):
        BeamSearchDecoder(1.5)
    with pytest.raises(ValueError, match="alpha: nan; a number"):
        BeamSearchDecoder(alpha=float("nan"))
    with pytest.raises(ValueError, match=r"token_threshold: 0\.5; a log-probability, which is at"):
        BeamSearchDecoder(token_threshold=0.5)
    with pytest.raises(ValueError, match="log_probs_length: 4; at most 3 frames"):
        BeamSearchDecoder()(frames, torch.tensor([4]))
    with pytest.raises(ValueError, match="needs set_text_encoder"):
        BeamSearchDecoder(language_model=MODEL)(frames, torch.tensor([3]))
    with pytest.raises(FileNotFoundError, match=r"none\.arpa: no such language model"):
        BeamSearchDecoder(language_model="none.arpa")


def test_equals_stored_flashlight_results():
    """All hypotheses of flashlight-text 0.0.7, stored with their scores and the input."""
    stored = np.load(FIXTURE)
    frames = torch.from_numpy(stored["log_probs"]).float()
    lengths = torch.from_numpy(stored["lengths"])
    decoder = BeamSearchDecoder(int(stored["beam_size"]))
    result = decoder.n_best(frames, lengths, 1000)
    for i, hypotheses in enumerate(result):
        rows = stored["item"] == i
        tokens = [[t for t in row if t] for row in stored["tokens"][rows].tolist()]
        expected = list(zip(stored["scores"][rows].tolist(), tokens, strict=True))
        assert_same(hypotheses, expected, 1e-9)


@pytest.mark.parametrize("scale", [1.0, 3.0, 5.0])
def test_equals_flashlight(scale):
    library = pytest.importorskip("flashlight.lib.text.decoder")
    frames, length = log_probs(3, 80, 29, seed=6, scale=scale).float().contiguous(), 80
    result = BeamSearchDecoder(50).n_best(frames, torch.tensor([length] * 3), 1)
    options = library.LexiconFreeDecoderOptions(
        beam_size=50,
        beam_size_token=29,
        beam_threshold=1e9,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=library.CriterionType.CTC,
    )
    decoder = library.LexiconFreeDecoder(options, library.ZeroLM(), 29, 0, [])
    for item, hypotheses in zip(frames, result, strict=True):
        best = decoder.decode(item.data_ptr(), length, 29)[0]
        tokens = [token for token, _ in groupby(best.tokens[1:-1]) if token]
        assert_same(hypotheses, [(best.score, tokens)])


@pytest.mark.parametrize("option", ["beta", "hotword_boost"])
def test_scores_of_words_whose_exponential_overflows_are_refused(option):
    with pytest.raises(ValueError, match=f"{option}: 1000"):
        BeamSearchDecoder(**{option: 1000.0})


def test_nan_is_named_unless_it_is_padding(tmp_path):
    (tmp_path / "words.txt").write_text("a\nab\n")
    frames, lengths = log_probs(2, 6, 4, seed=8), torch.tensor([6, 3])
    frames[1, 3:] = torch.nan
    for options in ({}, {"lexicon": tmp_path / "words.txt"}):
        decoder = BeamSearchDecoder(5, **options)
        decoder.set_text_encoder(CharacterEncoder(alphabet=" ab"))
        assert len(decoder(frames, lengths)) == 2
        with pytest.raises(ValueError, match="log_probs: NaN in utterance 1 of the batch"):
            decoder(frames, lengths + torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="log_probs: NaN in utterance 0"):
        BeamSearchDecoder(5).search().advance(frames[1])


@pytest.mark.parametrize(
    "options", [{"language_model": MODEL}, {"hotwords": ["a"]}, {"lexicon": __file__}]
)
@pytest.mark.parametrize("boundaries", [True, False])
def test_words_are_refused_for_phonemes(options, boundaries):
    decoder = BeamSearchDecoder(**options)
    with pytest.raises(ValueError, match=f"beam search, {[*options][0]}: "):
        decoder.set_text_encoder(PhonemeEncoder(word_boundaries=boundaries))
    BeamSearchDecoder().set_text_encoder(PhonemeEncoder())
