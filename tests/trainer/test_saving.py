"""Checkpoints that a thread writes."""

import errno
import os
import threading
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from src.run import Run
from src.trainer.saving import Saver
from src.trainer.trainer import Trainer
from src.utils.checkpoint import read_state, read_weights
from tests.demo import experiment
from tests.test_kills import OPTIONS
from train import train


class SlowRun:
    """Writes only when it is allowed to."""

    def __init__(self):
        self.allowed, self.saved = threading.Event(), []

    def save(self, name, weights, state, self_test):
        assert self.allowed.wait(60)
        self.saved.append((name, weights, state))


@pytest.fixture
def saver():
    run = SlowRun()
    return Saver(run, nn.Linear(1, 1), Accelerator(cpu=True), True, 60)


def test_training_goes_on_while_a_checkpoint_is_written(saver):
    weight, state = torch.ones(2), {"momentum": [torch.ones(1)], "step": 1}
    saver.save("last", {"weight": weight}, state, {})
    weight.add_(1)  # what training does before the thread has written
    state["momentum"][0].add_(1)
    state["step"] = 2
    saver.check()
    saver.run.allowed.set()
    saver.save("best", {"weight": weight}, state, {})  # waits for the one before
    saver.wait()
    (_, first, then), (name, second, _) = saver.run.saved
    assert first["weight"].tolist() == [1, 1] and second["weight"].tolist() == [2, 2]
    assert then == {"momentum": [torch.ones(1)], "step": 1} and name == "best"


def test_it_is_written_when_training_ends_with_an_error(saver):
    with pytest.raises(ValueError, match="diverged"), saver:
        saver.save("last", {}, {}, {})
        saver.run.allowed.set()
        raise ValueError("diverged")
    assert len(saver.run.saved) == 1


def test_shards_that_could_not_all_be_written_are_removed(saver, tmp_path, monkeypatch):
    saver.run = SimpleNamespace(path=tmp_path)

    def together(write):
        assert write() and (tmp_path / "last.new").exists()
        raise OSError("process 1: the disk is full")

    monkeypatch.setattr(saver, "together", together)
    with pytest.raises(OSError, match="process 1"):
        saver.write_shards("last", {"model.weight": (torch.ones(2), [0])}, {}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_stops_the_run_and_the_earlier_checkpoint_stays(corpus, tmp_path, monkeypatch):
    sync, steps = os.fsync, []

    def fsync(descriptor):
        if len(steps) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    def optimise(self, batches, real=Trainer.optimise):
        self.saver.wait()
        steps.append(self.step)
        return real(self, batches)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Trainer, "optimise", optimise)
    options = ["trainer.save_in_background=true", "trainer.steps_per_epoch=9"]
    with pytest.raises(OSError, match=r"last.new.* could not be written: No space left on device"):
        train(experiment("asr_baseline", corpus, tmp_path / "run", *OPTIONS, *options))
    assert len(steps) == 2
    folder = Run.open(tmp_path / "run").checkpoint("last")
    assert read_state(folder)["step"] == 1 and read_weights(folder)
    assert not (tmp_path / "run" / "last.new").exists()
