import os

import numpy as np
import pytest
import soundfile

from src.datasets.custom_dir import CustomDir
from src.text_encoder.characters import CharacterEncoder
from tests.demo import sine

KINDS = [("wav", 8000, 1), ("flac", 44100, 2), ("mp3", 16000, 1), ("ogg", 16000, 2)]


def test_any_format_with_transcripts(tmp_path):
    (tmp_path / "transcriptions").mkdir()
    for i, (ending, rate, channels) in enumerate(KINDS):
        sine(tmp_path / "audio" / f"{i}.{ending}", rate, 1.0, channels)
        (tmp_path / "transcriptions" / f"{i}.txt").write_text("Hello, World!\n")
    dataset = CustomDir(str(tmp_path), text_encoder=CharacterEncoder())
    assert dataset.has_targets
    assert [dataset[i]["id"] for i in range(4)] == ["0", "1", "2", "3"]
    assert [dataset[i]["audio"].shape for i in range(4)] == [(16000,)] * 4
    assert dataset[2]["text"] == "hello world"
    (tmp_path / "transcriptions" / "1.txt").unlink()
    with pytest.raises(ValueError, match="1.flac' has no text, but 3 of 4 rows have"):
        CustomDir(str(tmp_path), text_encoder=CharacterEncoder())
    for i in (0, 2, 3):
        (tmp_path / "transcriptions" / f"{i}.txt").unlink()
    assert not CustomDir(str(tmp_path), text_encoder=CharacterEncoder()).has_targets


def test_bad_transcripts(tmp_path):
    sine(tmp_path / "audio" / "a.wav")
    text = tmp_path / "transcriptions" / "a.txt"
    text.parent.mkdir()
    text.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"a.txt: not text in UTF-8"):
        CustomDir(str(tmp_path))
    text.unlink()
    text.mkdir()
    with pytest.raises(ValueError, match=r"a.txt: a folder, not a transcript"):
        CustomDir(str(tmp_path))


def test_unreadable_recordings(tmp_path):
    sine(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "b.wav")
    (tmp_path / "c.wav").symlink_to(tmp_path / "nowhere.wav")
    with pytest.raises(ValueError, match=r"b.wav: a FIFO, not an audio file"):
        CustomDir(str(tmp_path))
    dataset = CustomDir(str(tmp_path), on_error="skip")
    assert ["error" in dataset[i] for i in range(3)] == [False, True, True]


def test_recordings_directly_in_the_folder(tmp_path):
    path = sine(tmp_path / "a b.WAV")
    (tmp_path / "link.wav").symlink_to(path)
    (tmp_path / "._link.wav").write_bytes(b"what macOS leaves on foreign disks")
    dataset = CustomDir(str(tmp_path))
    assert [dataset[i]["id"] for i in range(len(dataset))] == ["a_b", "link"]
    assert dataset[1]["path"] == str(tmp_path / "link.wav")


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        CustomDir(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="no .wav"):
        CustomDir(str(tmp_path))
    sine(tmp_path / "a.wav")
    sine(tmp_path / "a.flac")
    with pytest.raises(ValueError, match="2 recordings are called 'a'"):
        CustomDir(str(tmp_path))
    (tmp_path / "a.flac").unlink()
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16000)
    with pytest.raises(ValueError, match=r"a.wav: a header without audio"):
        CustomDir(str(tmp_path))
