import json

import pytest

from src.text_encoder.base import load_text_encoder
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.normalizer import Normalizer


@pytest.mark.parametrize(
    "encoder",
    [
        CharacterEncoder("en"),
        CharacterEncoder("ru", Normalizer("ru", fold_yo=True)),
        CharacterEncoder(alphabet="ACGT"),
    ],
)
def test_save_and_load(encoder, tmp_path):
    encoder.save(tmp_path / "new")
    again = load_text_encoder(tmp_path / "new")
    assert again.vocabulary == encoder.vocabulary
    assert again.normalize("Ёж, 1ST A") == encoder.normalize("Ёж, 1ST A")


def test_description_is_json(tmp_path):
    CharacterEncoder(alphabet="ACGT").save(tmp_path)
    description = json.loads((tmp_path / "text_encoder.json").read_text())
    assert len(description.pop("sha256")) == 64
    assert description == {"kind": "characters", "alphabet": "ACGT", "normalizer": None}


def test_missing_description_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no text encoder"):
        load_text_encoder(tmp_path)


BROKEN = {
    "{": "not JSON",
    "[" * 100_000: "not JSON",
    "[]": r"\[\]; a JSON object",
    "{}": "kind: null; characters, phonemes or subwords",
    '{"kind": "words"}': "kind: 'words'; characters, phonemes or subwords",
    '{"kind": ["characters"]}': "kind: .*; characters, phonemes or subwords",
    '{"kind": "characters"}': "does not describe .*normalizer",
    '{"kind": "characters", "normalizer": null}': "does not describe .*alphabet",
    '{"kind": "characters", "normalizer": 5, "alphabet": "a"}': "does not describe",
    '{"kind": "characters", "normalizer": {"language": "fr"}, "alphabet": "a"}': "'fr'; en or ru",
    '{"kind": "characters", "normalizer": null, "alphabet": "aa"}': "has 'a' twice",
    '{"kind": "characters", "normalizer": null, "alphabet": 5}': "alphabet: 5; text",
}


@pytest.mark.parametrize(("text", "message"), BROKEN.items(), ids=range(len(BROKEN)))
def test_broken_description(tmp_path, text, message):
    (tmp_path / "text_encoder.json").write_text(text)
    with pytest.raises(ValueError, match=rf"text_encoder\.json.*{message}"):
        load_text_encoder(tmp_path)


def test_description_that_is_not_utf8(tmp_path):
    (tmp_path / "text_encoder.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="not JSON"):
        load_text_encoder(tmp_path)
