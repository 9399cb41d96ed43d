import builtins
import json
import pickle

import pytest

from src.metrics.wer import WER
from src.text_encoder.base import load_text_encoder
from src.text_encoder.phonemes import PHONOLOGIES, PhonemeEncoder
from src.utils import espeak

PANGRAM = (
    "It's a joy: the thin young judge of Rouge chose vision, yet he pushed four cows around water "
    "at a good beige measure, then he sang: 'cup, bird, light, calm.'"
)


def test_a_text_is_the_phonemes_of_connected_speech():
    encoder = PhonemeEncoder()
    assert encoder.normalize("Hello, world!") == "h ə l oʊ w ɚ l d"
    assert encoder.normalize("a fire") == "ə f aɪ ɚ"
    assert encoder.normalize("the end") == "ð ɪ ɛ n d"
    assert encoder.encode("") == []


def test_word_boundaries_are_tokens_that_are_not_shown():
    encoder, without = PhonemeEncoder(), PhonemeEncoder(word_boundaries=False)
    shown = [encoder.vocabulary[i] for i in encoder.encode("hello world")]
    assert shown == ["h", "ə", "l", "oʊ", " ", "w", "ɚ", "l", "d"]
    assert without.normalize("hello world") == encoder.normalize("hello world")
    assert " " not in without.vocabulary
    assert encoder.vocab_size == without.vocab_size + 1 == 2 + 41


@pytest.mark.parametrize("language", PHONOLOGIES)
def test_variants_are_replaced_by_phonemes_of_the_language(language):
    phonology = PHONOLOGIES[language]
    assert {*phonology.variants.values()} <= {*phonology.phonemes, ""}
    assert len({*phonology.phonemes}) == len(phonology.phonemes)


def test_all_phonemes_of_english_are_used():
    assert {*PhonemeEncoder().normalize(PANGRAM).split()} == {*PHONOLOGIES["en"].phonemes}


def test_russian():
    encoder = PhonemeEncoder("ru")
    assert encoder.normalize("Чаща, 5 лёгких") == "tʃʲ a ɕ ʌ pʲ a tʲ lʲ o x kʲ i x"
    assert encoder.vocab_size == 2 + 43


def test_languages_take_turns():
    english, russian = PhonemeEncoder(), PhonemeEncoder("ru")
    for word, other in (("stone", "камень"), ("water", "вода")):
        assert english.normalize(word) and russian.normalize(other)
    assert english.normalize("cool stone") == "k u l s t oʊ n"


def test_word_error_rate_is_the_phoneme_error_rate():
    metric = WER()
    text = PhonemeEncoder().normalize("hello world")
    assert metric.update(text=[text], prediction=["h ə l u w ɚ l"]) == [2 / 8]


def test_a_saved_encoder_decodes_without_espeak(tmp_path, monkeypatch):
    encoder = PhonemeEncoder(word_boundaries=False)
    ids = encoder.encode("seven lemons")
    encoder.save(tmp_path)
    monkeypatch.setattr("src.text_encoder.phonemes.pronounce", None)
    again = load_text_encoder(tmp_path)
    assert again.vocabulary == encoder.vocabulary
    assert again.decode(ids) == "s ɛ v ə n l ɛ m ə n z"


@pytest.mark.parametrize("phonemes", [[], "p b", ["p", "p"], ["p", ""], ["p", 5]])
def test_damaged_phonemes(tmp_path, phonemes):
    PhonemeEncoder().save(tmp_path)
    path = tmp_path / "text_encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"phonemes": phonemes}))
    with pytest.raises(ValueError, match=r"text_encoder\.json: .*a list of different phonemes"):
        load_text_encoder(tmp_path)


def test_what_cannot_be_encoded_is_named():
    with pytest.raises(ValueError, match="'да': the character 'д' is not in"):
        PhonemeEncoder().encode("да")
    with pytest.raises(ValueError, match="'pan': the phoneme 'n' is not in the vocabulary"):
        PhonemeEncoder(phonemes=["p", "æ"]).encode("pan")
    with pytest.raises(ValueError, match="language: 'fr'; en or ru"):
        PhonemeEncoder("fr")


def test_missing_espeak_is_one_sentence(monkeypatch):
    own = builtins.__import__

    def without_espeak(name, *arguments, **options):
        if name == "espeakng_loader":
            raise ImportError(name)
        return own(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_espeak)
    with pytest.raises(ValueError, match="eSpeak NG is missing: `pip install espeakng-loader`"):
        espeak.open_espeak()


def test_texts_are_pronounced_once(monkeypatch):
    encoder = PhonemeEncoder()
    before = encoder.encode("a text that is read twice")
    monkeypatch.setattr(espeak, "reader", None)
    assert encoder.encode("a text that is read twice") == before


def test_encoders_can_be_given_to_workers():
    encoder = PhonemeEncoder()
    text = "seven lemons"
    assert pickle.loads(pickle.dumps(encoder)).encode(text) == encoder.encode(text)
