import string

import pytest

from src.text_encoder.base import frames_needed
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.normalizer import Normalizer


def test_english_vocabulary():
    encoder = CharacterEncoder("en")
    assert encoder.vocabulary == ["", " ", "'", *string.ascii_lowercase]
    assert len(encoder) == encoder.vocab_size == 29


def test_russian_vocabulary():
    assert len(CharacterEncoder("ru")) == 1 + 1 + 33
    folded = CharacterEncoder("ru", Normalizer("ru", fold_yo=True))
    assert len(folded) == 1 + 1 + 32
    assert folded.decode(folded.encode("Ёж")) == "еж"


def test_encode_normalises_first():
    assert CharacterEncoder("en").encode("A b’c!") == [3, 1, 4, 2, 5]


def test_decode_keeps_repeats_and_leaves_out_blanks():
    assert CharacterEncoder("en").decode([3, 3, 0, 3, 1, 1, 4, 0, 0]) == "aaa b"


@pytest.mark.parametrize("text", ["Hello, world!", "It's 21", ""])
def test_round_trip(text):
    encoder = CharacterEncoder("en")
    assert encoder.decode(encoder.encode(text)) == encoder.normalize(text)


def test_custom_alphabet_does_not_normalise():
    encoder = CharacterEncoder(alphabet="AB ")
    assert encoder.vocabulary == ["", "A", "B", " "]
    assert encoder.encode("AB A") == [1, 2, 3, 1]
    with pytest.raises(ValueError, match="'a'"):
        encoder.encode("a")


def test_character_outside_the_vocabulary_is_named():
    with pytest.raises(ValueError, match="'Hello, мир': the character 'м' is not in"):
        CharacterEncoder("en").encode("Hello, мир")


@pytest.mark.parametrize(
    ("alphabet", "problem"),
    [("aba", "has 'a' twice"), ("", "text with at least one"), (5, "alphabet: 5; text with")],
)
def test_bad_alphabet(alphabet, problem):
    with pytest.raises(ValueError, match=problem):
        CharacterEncoder(alphabet=alphabet)


def test_english_is_the_default():
    assert CharacterEncoder().vocabulary == CharacterEncoder("en").vocabulary


@pytest.mark.parametrize("language", ["fr", "EN", 5, ["en"]])
def test_unknown_language(language):
    with pytest.raises(ValueError, match="text_encoder, language: .*; en or ru"):
        CharacterEncoder(language)


def test_language_and_alphabet():
    with pytest.raises(ValueError, match="language 'en' and alphabet 'ab'; only one of them"):
        CharacterEncoder("en", alphabet="ab")


def test_frames_of_many_texts_equal_those_of_each():
    encoder = CharacterEncoder("en")
    texts = ["", "a", "aa", "aaa b", "", "Hello, 11 bees!", "it's", "see", "e", "eel ", "", ""]
    for own in (texts, texts[:1], [], texts[::-1]):
        wanted = [frames_needed(encoder.encode(text)) for text in own]
        assert encoder.frames_needed(own).tolist() == wanted
    with pytest.raises(ValueError, match="'cafж': the character 'ж'"):
        encoder.frames_needed(["a", "cafж"])
