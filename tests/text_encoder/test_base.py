import json

import pytest

from src.text_encoder.base import load_text_encoder
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.normalizer import Normalizer


@pytest.mark.parametrize(
    "encoder",
    [
        CharacterEncoder(),
        CharacterEncoder("ru", Normalizer("ru", fold_yo=True)),
        CharacterEncoder("ACGT"),
    ],
)
def test_save_and_load(encoder, tmp_path):
    encoder.save(tmp_path / "new")
    again = load_text_encoder(tmp_path / "new")
    assert again.vocabulary == encoder.vocabulary
    assert again.normalize("Ёж, 1ST A") == encoder.normalize("Ёж, 1ST A")


def test_description_is_json(tmp_path):
    CharacterEncoder("ACGT").save(tmp_path)
    description = json.loads((tmp_path / "text_encoder.json").read_text())
    assert description == {"kind": "characters", "alphabet": "ACGT", "normalizer": None}


def test_nothing_to_load(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no text encoder"):
        load_text_encoder(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kind": "words", "normalizer": null}'])
def test_broken_description(tmp_path, text):
    (tmp_path / "text_encoder.json").write_text(text)
    with pytest.raises(ValueError, match=r"text_encoder\.json: does not describe"):
        load_text_encoder(tmp_path)
