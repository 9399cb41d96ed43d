import pickle

import numpy as np
import pytest

from src.datasets.manifest import Manifest
from src.datasets.recognition import RecognitionDataset
from src.text_encoder.characters import CharacterEncoder
from tests.demo import sine

TEXTS = ["hello", "a", "to and fro", "aaaa"]


@pytest.fixture
def rows(tmp_path):
    rows = []
    for i, text in enumerate(TEXTS):
        path = sine(tmp_path / f"{i}.wav", 8000, 1.5 + i / 2)
        rows.append({"audio_filepath": path.name, "duration": 1.5 + i / 2, "text": text})
    return rows


@pytest.fixture
def manifest(rows, tmp_path):
    return Manifest.from_rows(rows, tmp_path / "m.jsonl")


def texts(dataset):
    return [row.text for row in dataset.manifest]


def test_item(manifest):
    dataset = RecognitionDataset(manifest, text_encoder=CharacterEncoder())
    assert dataset.has_targets
    item = dataset[0]
    assert list(item) == ["id", "path", "seed", "audio", "raw_text", "text", "tokens"]
    assert item["text"] == "hello"
    assert item["tokens"].tolist() == [10, 7, 14, 14, 17]


def test_can_be_sent_to_a_spawned_worker(manifest):
    def frames(samples):  # can't be pickled
        return samples // 640

    dataset = RecognitionDataset(manifest, text_encoder=CharacterEncoder(), count_frames=frames)
    assert pickle.loads(pickle.dumps(dataset))[0]["text"] == "hello"


def test_without_a_text_encoder(manifest):
    dataset = RecognitionDataset(manifest, max_text_length=5)
    assert dataset.has_targets
    assert "tokens" not in dataset[0] and "text" not in dataset[0]
    assert texts(dataset) == ["hello", "a", "aaaa"]


def test_filter_for_ctc_counts_repeats(manifest):
    """`aaaa` needs 4 + 3 frames; three seconds give that many at 7 / 3 frames a second."""

    def frames(rate):
        return lambda samples: (samples * rate / 16000).astype(np.int64)

    encoder = CharacterEncoder()
    for rate, kept in ((7.01 / 3, True), (6.5 / 3, False)):
        dataset = RecognitionDataset(manifest, text_encoder=encoder, count_frames=frames(rate))
        assert ("aaaa" in texts(dataset)) == kept


def test_rows_without_text_are_named(rows, tmp_path):
    del rows[2]["text"]
    path = tmp_path / "m.jsonl"
    manifest = Manifest.from_rows(rows, path)
    with pytest.raises(ValueError) as error:
        RecognitionDataset(manifest, text_encoder=CharacterEncoder())
    assert str(error.value) == (
        f"{path}, line 3: '2.wav' has no text, but 3 of 4 rows have; "
        "wanted a text for every row, or for none."
    )
    dropped = RecognitionDataset(manifest, text_encoder=CharacterEncoder(), min_text_length=1)
    assert dropped.has_targets and len(dropped) == 3
    assert RecognitionDataset(manifest).has_targets


def test_manifest_without_text_has_no_targets(rows, tmp_path):
    for row in rows:
        del row["text"]
    manifest = Manifest.from_rows(rows, tmp_path / "m")
    dataset = RecognitionDataset(manifest, text_encoder=CharacterEncoder())
    assert not dataset.has_targets
    assert "text" not in dataset[0]


@pytest.mark.parametrize("key", ["min_text_length", "max_text_length"])
@pytest.mark.parametrize("value", [-1, 1.5, "abc"])
def test_bad_options(manifest, key, value):
    with pytest.raises(ValueError) as error:
        RecognitionDataset(manifest, **{key: value})
    assert str(error.value) == f"{key}: {value!r}; a whole number from 0 on, or null."


def test_unknown_character_is_named(tmp_path):
    path = sine(tmp_path / "a.wav")
    row = {"audio_filepath": str(path), "duration": 1.0, "text": "привет"}
    manifest = Manifest.from_rows([row], tmp_path / "m")
    dataset = RecognitionDataset(manifest, text_encoder=CharacterEncoder())
    with pytest.raises(ValueError, match="'п' is not in the vocabulary"):
        dataset[0]
