"""Which utterances get audio, and that a failure costs the report only."""

import logging
import re

import numpy as np
import pytest
import soundfile
import torch

from src.report import collector as module
from src.report.collector import Collector, file_stem, leave_worst, spectrogram
from src.tasks.base import Task

RATE = 8000


def batch_of(names, scores, **keys):
    count = len(names)
    audio = torch.sin(torch.arange(RATE).float())[None].repeat(count, 1)
    lengths = torch.full((count,), RATE // 2)
    rows = [{"id": name, "score": score} for name, score in zip(names, scores, strict=True)]
    return {"id": names, "rows": rows, "audio": audio, "audio_length": lengths} | keys


def collect(folder, audio, *batches, task=None):
    task = task or Task()
    collector = Collector(task, RATE, folder, audio, lambda row: (-row["score"], row["id"]))
    for batch in batches:
        collector.add(batch)
    return collector


@pytest.fixture(autouse=True)
def two_worst(monkeypatch):
    monkeypatch.setattr(module, "WORST", 2)


BATCHES = [batch_of(["a", "b", "c"], [0.1, 0.5, 0.3]), batch_of(["d"], [0.4])]


@pytest.mark.parametrize(("audio", "kept"), [("none", ""), ("worst", "bd"), ("all", "abcd")])
def test_which_utterances_get_audio(audio, kept, tmp_path):
    details = collect(tmp_path, audio, *BATCHES).details
    assert {name for name, own in details.items() if "audio" in own} == set(kept)
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {f"{file_stem(name)}_0.{end}" for name in kept for end in ("flac", "png")}
    assert all(own["seconds"] == 0.5 for own in details.values())
    for name in kept:
        (player,) = details[name]["audio"]
        samples, rate = soundfile.read(tmp_path / player["file"])
        assert (len(samples), rate, player["title"]) == (RATE // 2, RATE, "audio")


def test_worst_of_several_processes(tmp_path):
    rows = [
        row | collector.details[row["id"]]
        for batch in BATCHES
        for collector in [collect(tmp_path, "worst", batch)]
        for row in batch["rows"]
    ]
    rows.sort(key=lambda row: -row["score"])
    leave_worst(tmp_path, rows)
    assert [row["id"] for row in rows if "audio" in row] == ["b", "d"]
    assert len(list(tmp_path.iterdir())) == 4


def test_failure_is_logged_once(tmp_path, caplog):
    broken = batch_of(["x"], [1.0], audio=torch.full((1, RATE), torch.nan))
    with caplog.at_level(logging.WARNING):
        collector = collect(tmp_path, "worst", broken, broken, BATCHES[0])
    assert caplog.text.count("could not be collected") == 1
    assert collector.details.keys() == {"x"}


def test_loud_and_long_signals_and_pictures(tmp_path, monkeypatch):
    class Pictured(Task):
        def illustrate(self, item, **batch):
            return np.zeros((4, 5, 3), dtype=np.uint8)

        def signals(self, item, **batch):
            audio = batch["audio"][item].repeat(2)
            return {"loud": 3 * audio, "other": audio}

    monkeypatch.setattr(module, "LONGEST", 1)
    details = collect(tmp_path, "all", BATCHES[1], task=Pictured()).details["d"]
    sizes = [soundfile.info(tmp_path / player["file"]).frames for player in details["audio"]]
    assert sizes == [RATE, RATE]
    assert details["picture"].endswith(".png") and (tmp_path / details["picture"]).exists()
    assert len(list(tmp_path.iterdir())) == 3


def test_names_of_files_mean_nothing_in_a_url():
    names = [file_stem(name) for name in ("a b", "a_b", "../x", "é#?%", "a" * 300, "\udcff")]
    assert len(set(names)) == 6
    assert all(re.fullmatch(r"[\w.-]{1,80}", name, re.ASCII) for name in names)


def test_spectrogram_of_silence_and_of_few_samples():
    assert spectrogram(torch.zeros(0)).shape[0] == 64
    tone = spectrogram(torch.sin(2 * torch.pi * 1000 / RATE * torch.arange(RATE)))
    assert tone.shape == (64, RATE // 128 + 1)
    assert abs(int(tone[:, 30].argmax()) - (63 - 16)) <= 1  # 1 of 4 kHz, from below
