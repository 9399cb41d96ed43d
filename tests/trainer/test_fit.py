"""What `fit=true` predicts, writes and refuses."""

import gzip
import json
import time

import numpy as np
import pytest

from src.trainer.fit import advice
from src.trainer.rehearsal import Rehearsal, evenly_spread
from src.utils.flops import FlopCounter
from src.utils.phases import PHASES
from tests.demo import SMALL, experiment
from train import train

OPTIONS = [*SMALL, "fit=true", "fit_limits.seconds=0.5", "trainer.epochs=2", "trainer.log_ids=true"]


def test_fit_predicts_and_trains_nothing(corpus, tmp_path, capfd):
    found = train(experiment("asr_deepspeech2", corpus, tmp_path / "r", *OPTIONS))
    now, largest = found["as_configured"], found["largest"]
    assert now["max_seconds"] == 12 and now["measured"] and now["steps"] > 2
    assert 0 < now["memory_gb"] < found["limit_gb"] and 0 <= now["padding"] < 0.5
    assert now["seconds_per_step"] > 0
    assert now["hours"] * 3600 > now["steps"] * now["seconds_per_step"]  # and evaluations
    assert largest["max_seconds"] < 12  # an epoch of it has ten steps or more
    assert found["phases"].keys() == {*PHASES, "other", "mfu"}
    assert sum(found["phases"][name] for name in (*PHASES, "other")) == pytest.approx(1)
    written = {path.name for path in (tmp_path / "r").iterdir()}
    assert written == {".lock", ".run", "log.txt", "fit.json", "profile.json.gz"}
    assert json.loads((tmp_path / "r" / "fit.json").read_text()) == found
    with gzip.open(tmp_path / "r" / "profile.json.gz") as file:
        names = {event.get("name") for event in json.load(file)["traceEvents"]}
    assert set(PHASES) <= names
    printed, errors = capfd.readouterr()
    assert "gpuGetDeviceCount" not in errors  # of a profiler that misses a GPU
    assert advice(now, largest) in printed
    assert "Nothing was trained." in printed


def test_larger_batches_are_suggested_if_they_are_faster():
    now = {"max_seconds": 4.0, "audio_hours_per_second": 1.0, "steps": 100}
    faster = {"max_seconds": 50.0, "audio_hours_per_second": 2.0, "steps": 8}
    assert advice(now, faster).startswith("Suggested: dataloader.max_seconds=50, for 2.00 times")
    longer = advice(now, faster | {"steps": 100})
    assert longer.startswith("Suggested: dataloader.max_seconds=50 and fewer steps than are")
    assert advice(None, faster) == "Suggested: dataloader.max_seconds=50"
    same = {"max_seconds": 50.0, "audio_hours_per_second": 1.01}
    assert "as configured; dataloader.max_seconds=50 fits, too" in advice(now, same)
    smaller = {"max_seconds": 2.0, "audio_hours_per_second": 0.9}
    assert "max_seconds=2, which leaves 10% of the memory" in advice(now, smaller)
    assert advice(now, now) == "Suggested: batches as configured"


def test_too_little_memory(corpus, tmp_path):
    config = experiment(
        "asr_deepspeech2", corpus, tmp_path / "r", *OPTIONS, "fit_limits.memory_gb=0.01"
    )
    with pytest.raises(ValueError, match="the longest utterance needs .* of 0.01 GB"):
        train(config)


def test_steps_that_need_more_memory_than_a_single_one(corpus, tmp_path, monkeypatch):
    """Single steps fit, and several in a row don't: with and without smaller batches to suggest."""
    longest = []

    def fail(self, max_seconds, budget):
        longest.append(float(self.dataset.durations.max()))
        raise MemoryError

    monkeypatch.setattr(Rehearsal, "rehearse", fail)
    found = train(experiment("asr_deepspeech2", corpus, tmp_path / "a", *OPTIONS))
    assert found["as_configured"] is None and found["largest"]["max_seconds"] < 12
    options = [*OPTIONS, f"dataloader.max_seconds={longest[0]}"]
    with pytest.raises(ValueError, match="s need too much memory, and there are no smaller ones"):
        train(experiment("asr_deepspeech2", corpus, tmp_path / "b", *options))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fit_limits.seconds=0", "fit_limits.seconds"),
        ("fit_limits.memory_gb=-1", "fit_limits.memory_gb"),
        ("+fit_limits.memory=1", "fit_limits"),
        ("fit=2", "config, fit"),
    ],
)
def test_bad_options(override, message, corpus, tmp_path):
    config = experiment("asr_deepspeech2", corpus, tmp_path / "r", *OPTIONS, override)
    with pytest.raises(ValueError, match=message):
        train(config)
    assert not (tmp_path / "r").exists()


def test_counting_does_not_lengthen_the_predicted_step(corpus, tmp_path, monkeypatch):
    counter = FlopCounter.__enter__

    def slow(self):
        time.sleep(1.5)
        return counter(self)

    monkeypatch.setattr(FlopCounter, "__enter__", slow)
    options = [*OPTIONS, "fit_limits.seconds=30", "dataloader.max_seconds=5"]
    found = train(experiment("asr_deepspeech2", corpus, tmp_path / "r", *options))
    assert found["as_configured"]["seconds_per_step"] < 0.2  # else 0.3 or more


@pytest.mark.parametrize(
    "size",
    [
        ["dataloader.max_seconds=60"],
        ["trainer.accumulate=3"],
        ["dataloader.max_seconds=60", "trainer.accumulate=3"],
        ["dataloader.max_seconds=200"],
    ],
)
def test_fewer_batches_than_steps_are_timed(size, corpus, tmp_path):
    found = train(experiment("asr_deepspeech2", corpus, tmp_path / "r", *OPTIONS, *size))
    assert found["as_configured"]["seconds_per_step"] > 0


def test_every_beginning_is_spread_evenly():
    order = evenly_spread(100)
    assert sorted(order) == list(range(100))
    for count in (4, 10, 30):
        assert np.mean(order[:count]) == pytest.approx(50, abs=12)
