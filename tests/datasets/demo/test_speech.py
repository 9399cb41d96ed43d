import dataclasses
import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample

from src.datasets.demo import speech as demo_speech
from src.datasets.demo.speech import (
    NOTE,
    SPLITS,
    Recipe,
    make_demo_speech,
    resample_espeak,
    write_speech,
)
from tests.demo import TINY, tiny_corpus

KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


def rows_of(corpus: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (corpus / f"{split}.jsonl").read_text().splitlines()]


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> None:
    """eSpeak NG's process dies of a segmentation fault."""
    run = demo_speech.subprocess.run
    monkeypatch.setattr(
        demo_speech.subprocess, "run", lambda _, **o: run([sys.executable, "-c", KILLED], **o)
    )


def test_deterministic_to_the_byte(corpus: Path, tmp_path: Path) -> None:
    again = tiny_corpus(tmp_path / "again", workers=1)
    made, shared = hashes(again), hashes(corpus)  # where other tests may have kept files beside
    assert made == {name: shared.get(name) for name in made}


@pytest.mark.parametrize("split", SPLITS)
def test_rows_match_files(corpus: Path, split: str) -> None:
    for row in rows_of(corpus, split):
        info = soundfile.info(corpus / row["audio_filepath"])
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert row["duration"] == info.frames / 16000
        assert 1.0 < row["duration"] < 6.0
        assert set(row) == {"audio_filepath", "duration", "text", "speaker", "lang"}
        assert row["lang"] == "en"
        assert Path(row["audio_filepath"]).parent.name == row["speaker"]


def test_splits_have_different_speakers_and_sentences(corpus: Path) -> None:
    speakers = [{row["speaker"] for row in rows_of(corpus, split)} for split in SPLITS]
    assert [len(split_rows) for split_rows in speakers] == [2, 2, 2]
    assert len(set.union(*speakers)) == 6
    texts = [row["text"] for split in SPLITS for row in rows_of(corpus, split)]
    assert len(texts) == len(set(texts))


def test_every_file_has_one_row(corpus: Path) -> None:
    rows = {split: rows_of(corpus, split) for split in SPLITS}
    named = sorted(row["audio_filepath"] for split_rows in rows.values() for row in split_rows)
    files = sorted(str(path.relative_to(corpus)) for path in (corpus / "audio").rglob("*.flac"))
    assert named == files
    note = json.loads((corpus / NOTE).read_text())["splits"]
    assert {split: note[split]["utterances"] for split in SPLITS} == {
        split: len(split_rows) for split, split_rows in rows.items()
    }
    hours = sum(row["duration"] for row in rows["train"]) / 3600
    assert note["train"]["hours"] == pytest.approx(hours, abs=5e-4)


def test_hours_are_close_to_recipe(corpus: Path) -> None:
    note = json.loads((corpus / NOTE).read_text())["splits"]
    made = [note[split]["hours"] for split in SPLITS]
    assert made == pytest.approx(TINY.hours, rel=0.2)


def test_levels_differ_without_clipping(corpus: Path) -> None:
    for row in rows_of(corpus, "train"):
        audio, _ = soundfile.read(corpus / row["audio_filepath"])
        assert -26.5 < 10 * np.log10(np.square(audio).mean()) < -19.5
        assert np.abs(audio).max() < 0.995


def test_tone_has_level_and_pitch(tmp_path: Path) -> None:
    time = np.arange(22050) / 22050
    tone = (8000 * np.sin(2 * np.pi * 1000 * time)).astype(np.int16)
    assert write_speech(tmp_path / "tone.flac", tone, level=-23.0) == 1.0
    audio, rate = soundfile.read(tmp_path / "tone.flac")
    assert np.abs(np.fft.rfft(audio)).argmax() == 1000 and rate == 16000
    assert 10 * np.log10(np.square(audio).mean()) == pytest.approx(-23, abs=0.05)


def test_resampling_equals_torchaudio() -> None:
    audio = np.random.default_rng(0).standard_normal(30001).cumsum() / 100
    audio -= np.linspace(audio[0], audio[-1], len(audio))
    ours = resample_espeak(audio)
    theirs = resample(torch.from_numpy(audio), 22050, 16000, lowpass_filter_width=64).numpy()
    assert len(ours) == round(30001 * 16000 / 22050)
    middle = slice(500, len(ours) - 500)
    assert np.abs(ours - theirs[: len(ours)])[middle].max() < 0.01 * np.abs(ours).max()


def test_resampling_removes_high_frequencies() -> None:
    time = np.arange(22050) / 22050
    kept, lost = (resample_espeak(np.sin(2 * np.pi * tone * time)) for tone in (7900, 8200))
    assert np.sqrt(np.square(kept).mean()) == pytest.approx(np.sqrt(0.5), rel=1e-6)
    assert np.abs(lost).max() < 1e-9


def test_clipping_peak_lowers_level(tmp_path: Path) -> None:
    audio = np.zeros(22050, dtype=np.int16)
    audio[11000:11010] = 20000
    write_speech(tmp_path / "click.flac", audio, level=-20.0)
    assert 0.97 < np.abs(soundfile.read(tmp_path / "click.flac")[0]).max() < 0.995


def test_crash_raises_and_leaves_no_files(tmp_path: Path, crashing: None) -> None:
    with pytest.raises(ValueError, match=r"the voice 'en-us\+\w+', exit code -11") as error:
        tiny_corpus(tmp_path / "corpus")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_existing_corpus_is_used(corpus: Path, crashing: None) -> None:
    assert tiny_corpus(corpus) == corpus
    assert make_demo_speech(corpus) == corpus


def test_other_recipe_raises(corpus: Path) -> None:
    with pytest.raises(ValueError, match=f"{corpus}: contains demo speech of another recipe"):
        make_demo_speech(corpus, dataclasses.replace(TINY, seed=4))


def test_older_version_raises(tmp_path: Path) -> None:
    old = dataclasses.asdict(dataclasses.replace(Recipe(), version=0))
    (tmp_path / NOTE).write_text(json.dumps({"recipe": old, "splits": {}}))
    with pytest.raises(ValueError, match="another recipe; remove the folder"):
        make_demo_speech(tmp_path)


@pytest.mark.parametrize("note", [None, "{", "{}"])
def test_other_folder_is_unchanged(tmp_path: Path, note: str | None) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    if note is not None:
        (tmp_path / NOTE).write_text(note)
    with pytest.raises(ValueError, match=f"{tmp_path}: exists but contains no demo speech"):
        make_demo_speech(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_concurrent_creation(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "corpus"

    def overtaken(*_) -> dict:
        if not folder.exists():
            shutil.copytree(corpus, folder)
            (folder / "first.txt").touch()
        return {}

    monkeypatch.setattr(demo_speech, "make_split", overtaken)
    monkeypatch.setattr(demo_speech, "make_noises", lambda work, *_: work.mkdir())
    assert tiny_corpus(folder) == folder
    assert (folder / "first.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
