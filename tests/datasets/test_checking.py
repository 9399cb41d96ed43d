import json

import numpy as np
import pytest
import soundfile

from src.datasets.checking import find_errors
from src.text_encoder.characters import CharacterEncoder
from tests.demo import sine


def faults(folder, *rows):
    """What is wrong with rows of a manifest in a folder."""
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [fault for _, fault in find_errors(path, CharacterEncoder(), frames_per_second=25)]


def row(path, duration=1.0, **values):
    return {"audio_filepath": path.name, "duration": duration} | values


def test_good_rows(tmp_path):
    path = sine(tmp_path / "a.mp3", 44100, 1.0, 2)
    rows = [row(path), row(path, 0.25, offset=0.75), row(path, text="hello")]
    assert faults(tmp_path, *rows) == [None] * 3


@pytest.mark.parametrize("rows", ["", "\n\n"])
def test_no_rows(tmp_path, rows):
    (tmp_path / "m.jsonl").write_text(rows)
    with pytest.raises(ValueError, match="m.jsonl: no rows"):
        list(find_errors(tmp_path / "m.jsonl", CharacterEncoder(), frames_per_second=25))


def test_lines_are_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("src.datasets.checking.CHUNK", 3)
    path = sine(tmp_path / "a.wav", 8000, 0.1)
    errors = faults(tmp_path, *[row(path, 0.1 + 10 * i) for i in range(11)])
    assert errors[0] is None
    assert [f"says {10 * i}.10 s" in errors[i] for i in range(1, 11)] == [True] * 10


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg"])
def test_truncated_file(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 48000), 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (fault,) = faults(tmp_path, row(path, 3.0))
    assert path.name in fault
    assert "not readable" in fault or "the row says 3.00 s" in fault


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"duration": None}, "duration is null"),
        ({"duration": 1.1}, "lasts 1.00 s, the row says 1.10 s"),
        ({"offset": 0.5}, "0.50 s from second 0.5 on, wanted 1.00"),
        ({"offset": 3.0}, "no samples from second 3 on"),
        ({"text": ""}, "an empty text"),
        ({"text": "a" * 14}, "the text needs 27 frames of 25"),
    ],
)
def test_errors(tmp_path, values, words):
    path = sine(tmp_path / "a.wav")
    (fault,) = faults(tmp_path, row(path) | values)
    assert words in fault


def test_shortest_possible_utterance(tmp_path):
    path = sine(tmp_path / "a.wav")
    assert faults(tmp_path, row(path, text="a" * 13), row(path, 1.04)) == [None, None]


def test_silence_and_non_finite_samples(tmp_path):
    for name, value in (("zeros", 0.0), ("nan", np.nan)):
        soundfile.write(tmp_path / f"{name}.wav", np.full(16000, value), 16000, subtype="FLOAT")
    errors = faults(tmp_path, row(tmp_path / "zeros.wav"), row(tmp_path / "nan.wav"))
    assert "only silence" in errors[0]
    assert "not finite" in errors[1]
