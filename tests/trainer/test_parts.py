import logging
import math
import os
import random
import signal

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from src.config import build
from src.metrics.tracker import MetricTracker
from src.metrics.wer import WER
from src.trainer import signals
from src.trainer.evaluation import worst_first
from src.trainer.media import first_item
from src.trainer.monitor import Monitor
from src.trainer.optimization import Optimization
from src.trainer.random_state import random_state, set_random_state
from src.trainer.settings import Settings
from src.trainer.signals import StopSignal
from tests.demo import CONFIGS


def test_monitor():
    directions = {"val/WER": False, "val/SI-SDRi": True}
    monitor = Monitor("val/WER", 2, directions)
    better = [monitor.is_better({"val/WER": v}) for v in (math.nan, 3, 4, 2, 2, math.nan)]
    assert better == [False, True, False, True, False, False]
    assert monitor.out_of_patience()
    restored = Monitor("val/WER", 3, directions)
    restored.load_state_dict(monitor.state_dict())
    assert not restored.is_better({"val/WER": 5})
    assert restored.out_of_patience()
    higher = Monitor("val/SI-SDRi", None, directions)
    assert [higher.is_better({"val/SI-SDRi": v}) for v in (1, 0.5, 2)] == [True, False, True]


def test_state_of_a_monitor_of_another_metric(caplog):
    caplog.set_level(logging.INFO)
    directions = {"val/WER": False, "val/SI-SDRi": True}
    monitor = Monitor("val/WER", 1, directions)
    assert [monitor.is_better({"val/WER": value}) for value in (0.5, 0.6)] == [True, False]
    same, other = Monitor("val/WER", 1, directions), Monitor("val/SI-SDRi", 1, directions)
    state = monitor.state_dict()
    assert not other.load_state_dict(state) and not other.out_of_patience()
    assert "trainer.monitor: val/SI-SDRi instead of val/WER" in caplog.text
    assert other.is_better({"val/SI-SDRi": -3.0})
    assert same.load_state_dict(state) and same.out_of_patience()
    del state["name"]  # of an earlier version
    assert other.load_state_dict(state) and other.best == 0.5


def plateau(higher_is_better):
    """An optimizer of rate 1 whose schedule halves it after an evaluation without improvement."""
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    config = OmegaConf.load(CONFIGS / "scheduler" / "plateau.yaml")
    config.patience = 0
    scheduler = build(OmegaConf.create({"scheduler": config}), "scheduler", optimizer=optimizer)
    optimization = Optimization(optimizer, scheduler, [weight])
    optimization.follow(higher_is_better)
    return optimization


@pytest.mark.parametrize(
    ("higher_is_better", "improving"), [(True, [-9.0, -8, 1, 2]), (False, [2.0, 1, -8, -9])]
)
def test_plateau_follows_the_direction_of_the_metric(higher_is_better, improving):
    optimization = plateau(higher_is_better)
    for value in improving:
        optimization.step_on_metric(value)
        assert optimization.learning_rate == 1.0
    optimization.step_on_metric(improving[-2])
    assert optimization.learning_rate == 0.5
    resumed = plateau(higher_is_better)
    resumed.load_state_dict(optimization.state_dict())
    resumed.follow(higher_is_better)
    resumed.step_on_metric(improving[-2])
    assert resumed.learning_rate == 0.25  # not better than before
    resumed.follow(higher_is_better, anew=True)
    resumed.step_on_metric(improving[0])
    assert resumed.learning_rate == 0.25


def test_plateau_of_a_state_that_took_lower_values_as_better():
    earlier, resumed = plateau(False), plateau(True)
    earlier.step_on_metric(0.1)
    resumed.load_state_dict(earlier.state_dict())
    resumed.follow(True)
    for value in (0.2, 0.3):
        resumed.step_on_metric(value)
    assert resumed.learning_rate == 1.0


def test_no_utterance_is_no_new_best():
    tracker = MetricTracker({"WER": WER()})
    tracker.update(id=[], skipped=3)
    values = {f"val/{key}": value for key, value in tracker.compute().items()}
    monitor = Monitor("val/WER", None, {"val/WER": False})
    with pytest.raises(ValueError, match="no value to monitor, only of val/skipped_files"):
        monitor.is_better(values)


def test_unknown_monitor_lists_metrics():
    directions = {"val/WER": False, "val/WER_insertions": None}
    for name in ("val/WRE", "val/WER_insertions", "min val/WER"):
        with pytest.raises(ValueError, match=f"'{name}'; wanted one of val/WER\\."):
            Monitor(name, None, directions)
    with pytest.raises(ValueError, match="'val/WER'; wanted null, or evaluations in trainer.val"):
        Monitor("val/WER", None, {})
    with pytest.raises(ValueError, match="patience: needs"):
        Monitor(None, 3, directions)
    monitor = Monitor(None, 1, {})  # there are no evaluations
    assert not monitor.is_better({}) and not monitor.out_of_patience()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 1.5),
        ("epochs", 0),
        ("epochs", None),
        ("accumulate", 0),
        ("accumulate", True),
        ("log_every_steps", 0),
        ("save_every_steps", -1),
        ("steps_per_epoch", "many"),
        ("max_grad_norm", -1),
        ("max_grad_norm", math.nan),
        ("show_stages", "foo"),
        ("show_every_epochs", -1),
        ("validate_on", "val"),
        ("max_discarded", 0),
        ("upload_checkpoints", "yes"),
    ],
)
def test_bad_settings(key, value):
    with pytest.raises(ValueError, match=f"trainer.{key}: "):
        Settings(**{key: value})


@pytest.mark.parametrize("steps", [-1, "never", 1.5, True])
def test_bad_steps_of_frozen_parts(steps):
    with pytest.raises(ValueError, match="trainer.freeze.encoder: .*; always, or a whole number"):
        Settings(freeze={"encoder": steps})
    Settings(freeze={"encoder": "always", "head": 0})


def test_random_state_is_restored():
    state = random_state()
    first = random.random(), np.random.rand(), torch.rand(1).item()
    set_random_state(state)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first


def test_first_signal_is_noted_and_the_second_acts(monkeypatch):
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        os.kill(os.getpid(), signal.SIGTERM)  # perhaps the same, passed on by a launcher
        assert stop.number == signal.SIGINT
        monkeypatch.setattr(signals, "RELAYED", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_first_item_without_padding():
    batch = {
        "id": ["a", "b"],
        "seed": torch.tensor([4, 5]),
        "audio": torch.arange(6.0).reshape(2, 3),
        "audio_length": torch.tensor([2, 3]),
        "skipped": 0,
    }
    item = first_item(batch)
    assert item["id"] == ["a"] and item["seed"].tolist() == [4] and item["skipped"] == 0
    assert item["audio"].tolist() == [[0, 1]]


def test_worst_first():
    rows = [{"id": "a", "e": 0.1}, {"id": "c", "e": 0.5}, {"id": "b", "e": 0.5}, {"id": "d"}]
    assert [row["id"] for row in worst_first(rows, "e", False)] == ["b", "c", "a", "d"]
    assert [row["id"] for row in worst_first(rows, "e", True)] == ["a", "b", "c", "d"]
    rows.insert(2, {"id": "n", "e": math.nan})
    assert [row["id"] for row in worst_first(rows, "e", False)] == ["n", "b", "c", "a", "d"]
    assert [row["id"] for row in worst_first(rows, "e", True)] == ["n", "a", "b", "c", "d"]
