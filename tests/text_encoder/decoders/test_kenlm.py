"""Against KenLM itself, whose files and scores are in tests/fixtures/kenlm.npz.

Made with the programs and the Python module of kenlm 0.3.0, from 120 sentences, `text`:

lmplz -o 4 --text text --arpa arpa
build_binary probing arpa probing                  build_binary trie arpa trie
build_binary -q 5 -b 6 trie arpa quant_trie        build_binary -a 64 trie arpa array_trie
build_binary -q 4 -a 64 trie arpa quant_array_trie
kenlm.Model(kind).score(sentence)                  # <kind>_scores, of each line of `sentences`
"""

import math
from pathlib import Path

import numpy as np
import pytest

from src.text_encoder.decoders.kenlm import read_language_model
from src.text_encoder.decoders.ngram_training import train_ngram

STORED = dict(np.load(Path(__file__).parents[2] / "fixtures" / "kenlm.npz"))
KINDS = ("probing", "trie", "quant_trie", "array_trie", "quant_array_trie")


def write(path, data):
    path.write_bytes(data)
    return path


def lines(name):
    return STORED[name].tobytes().decode().split("\n")


def test_training_equals_lmplz(tmp_path):
    expected = read_language_model(write(tmp_path / "lm.arpa", STORED["arpa"].tobytes()))
    model = train_ngram(lines("text")[:-1], order=4)
    assert set(model.ngrams) == set(expected.ngrams)
    for words, values in expected.ngrams.items():
        assert model.ngrams[words] == pytest.approx(values, abs=1e-6), words


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_those_of_kenlm(tmp_path, kind):
    model = read_language_model(write(tmp_path / "lm.bin", STORED[kind].tobytes()))
    scores = [model.sentence_log_prob(line.split()) / math.log(10) for line in lines("sentences")]
    assert model.order == 4
    assert scores == pytest.approx(STORED[f"{kind}_scores"].tolist(), abs=1e-4)


@pytest.mark.parametrize("kind", ["probing", "trie"])
def test_binary_holds_the_ngrams_of_the_arpa_file(tmp_path, kind):
    arpa = read_language_model(write(tmp_path / "lm.arpa", STORED["arpa"].tobytes()))
    binary = read_language_model(write(tmp_path / "lm.bin", STORED[kind].tobytes()))
    for words, values in arpa.ngrams.items():
        assert binary.ngrams[words] == pytest.approx(values, abs=1e-6)
    for unknown in (("<s>", "xyz"), ("xyz",), ("the",) * 5, ()):
        assert unknown not in binary.ngrams


@pytest.mark.parametrize("kind", KINDS)
def test_cut_file_is_an_error(tmp_path, kind):
    whole = STORED[kind].tobytes()
    for size in [40, 120, *range(200, len(whole) - 1, len(whole) // 7)]:
        path = write(tmp_path / f"{size}.bin", whole[:size])
        with pytest.raises(ValueError, match=f"{size}.bin: "):
            read_language_model(path)


def test_damaged_file_is_an_error_or_a_model(tmp_path):
    draw = np.random.default_rng(0)
    for trial in range(60):
        data = STORED[KINDS[trial % len(KINDS)]].copy()
        data[draw.integers(88, 400 if trial % 2 else len(data), 30)] = draw.integers(0, 256, 30)
        path = write(tmp_path / f"{trial}.bin", data.tobytes())
        try:
            read_language_model(path).sentence_log_prob(["the", "a"])
        except ValueError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (48, ord("4"), "not a binary language model of KenLM's version 5; build one from the ARPA"),
        (96, 1, "of the kind rest_probing; build one from the ARPA"),
        (100, 0, "without its words; build one from the ARPA"),
    ],
)
def test_other_kinds_are_named(tmp_path, place, value, message):
    data = bytearray(STORED["probing"].tobytes())
    data[place] = value
    with pytest.raises(ValueError, match=message):
        read_language_model(write(tmp_path / "lm.bin", bytes(data)))
