import logging

import pytest

from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.text_encoder.decoders.lexicon import Lexicon, read_lexicon, words_of_model
from src.text_encoder.decoders.ngram import NgramModel

ENCODER = CharacterEncoder("en")


def test_arcs_of_a_trie():
    vocabulary = ["", "▁a", "b"]
    lexicon = Lexicon([("a", (1,)), ("ab", (1, 2)), ("abb", (1, 2)), ("a", (1,))], vocabulary)
    assert lexicon.words == ["a", "ab", "abb"]
    arcs = zip(lexicon.token, lexicon.target, lexicon.word, strict=True)
    assert sorted(tuple(map(int, arc)) for arc in arcs) == [
        (1, 0, 0),
        (1, 1, -1),
        (2, 0, 1),
        (2, 0, 2),
    ]
    assert lexicon.first.tolist() == [0, 2, 4]
    assert lexicon.place.tolist() == [0, 1, 0, 1]


def test_words_that_cannot_be_spelled_are_left_out(caplog):
    model = NgramModel({(w,): (-1.0, 0.0) for w in ("<s>", "</s>", "<unk>", "cat", "naïf", "Dog")})
    with caplog.at_level(logging.WARNING):
        assert [word for word, _ in words_of_model(model, ENCODER)] == ["cat"]
    assert "2 words of the language model can't be spelled" in caplog.text


def test_lexicon_of_a_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("cat\n\ndon't d o n t |\ndon't\n", encoding="utf-8-sig")
    spellings = [(word, ENCODER.decode(list(ids))) for word, ids in read_lexicon(path, ENCODER)]
    assert spellings == [("cat", "cat"), ("don't", "dont"), ("don't", "don't")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Cat", "line 2: 'Cat'; a word in its normalised form"),
        ("cat c ä t", "line 2: the token 'ä' is not in the vocabulary"),
    ],
)
def test_bad_line_is_named(line, message, tmp_path):
    (tmp_path / "words.txt").write_text(f"dog\n{line}\n", encoding="utf-8")
    decoder = BeamSearchDecoder(lexicon=tmp_path / "words.txt")
    with pytest.raises(ValueError, match=message):
        decoder.set_text_encoder(ENCODER)


def test_missing_lexicons(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such lexicon"):
        BeamSearchDecoder(lexicon=tmp_path / "words.txt")
    with pytest.raises(ValueError, match="needs a language_model"):
        BeamSearchDecoder(lexicon="model")
    (tmp_path / "words.txt").write_text("\n", encoding="utf-8")
    decoder = BeamSearchDecoder(lexicon=tmp_path / "words.txt")
    with pytest.raises(ValueError, match="no words in it"):
        decoder.set_text_encoder(ENCODER)
