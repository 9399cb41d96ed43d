import os
import random
import signal

import numpy as np
import pytest
import torch
from torch import nn

from src.trainer.inferencer import worst_first
from src.trainer.media import first_item
from src.trainer.monitor import Monitor
from src.trainer.random_state import random_state, set_random_state
from src.trainer.run_folder import RunFolder
from src.trainer.self_test import check_self_test, make_self_test
from src.trainer.signals import StopSignal
from src.utils.files import append_jsonl, read_jsonl

CPU = torch.device("cpu")


def test_monitor():
    monitor = Monitor("min val/WER", 2, ["val/WER"])
    assert [monitor.is_better({"val/WER": v}) for v in (3, 4, 2, 2)] == [True, False, True, False]
    assert not monitor.out_of_patience()
    restored = Monitor("min val/WER", 2, ["val/WER"])
    restored.load_state_dict(monitor.state_dict())
    assert not restored.is_better({"val/WER": 5})
    assert restored.out_of_patience()
    assert Monitor("max val/x", None, ["val/x"]).is_better({"val/x": 1})


def test_monitor_names_what_exists():
    with pytest.raises(ValueError, match="no figure is called 'val/WRE'; there are val/WER"):
        Monitor("min val/WRE", None, ["val/WER"])
    with pytest.raises(ValueError, match="not of the form"):
        Monitor("val/WER", None, ["val/WER"])
    with pytest.raises(ValueError, match="patience needs"):
        Monitor(None, 3, [])


def test_random_state_goes_on():
    state = random_state()
    first = random.random(), np.random.rand(), torch.rand(1).item()
    set_random_state(state)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first


def test_first_signal_is_noted_and_the_second_acts():
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_run_folders_never_collide(tmp_path):
    assert len({RunFolder.create(tmp_path, "x").path for _ in range(5)}) == 5
    with pytest.raises(FileNotFoundError, match="no run here"):
        RunFolder.open(tmp_path)


def test_newest_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run here; train one"):
        RunFolder.newest(tmp_path)
    for i, name in enumerate(["x/a", "x/b", "y/c"]):
        (tmp_path / name / "last").mkdir(parents=True)
        (tmp_path / name / "config.yaml").touch()
        os.utime(tmp_path / name / "config.yaml", (i, i))
    (tmp_path / "y/c/last").rmdir()  # has no checkpoint
    assert RunFolder.newest(tmp_path).path == tmp_path / "x/b"


def test_rows_after_the_resume_are_forgotten(tmp_path):
    run = RunFolder(tmp_path)
    for step in (1, 2, 3):
        append_jsonl(run.metrics, {"step": step})
    with run.metrics.open("a") as file:
        file.write('{"st')
    run.forget_after(2)
    run.log_metrics({"step": 3})
    assert read_jsonl(run.metrics) == [{"step": 1}, {"step": 2}, {"step": 3}]


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, audio, **_):
        return {"double": audio * self.factor, "double_length": torch.tensor([1])}


def test_self_test(tmp_path):
    model, same = Doubling(), lambda **batch: batch
    stored = make_self_test(torch.arange(4.0), model, same, CPU)
    assert stored["double"].tolist() == [[0, 2, 4, 6]]
    check_self_test(stored, model, same, CPU, tmp_path)
    with torch.no_grad():
        model.factor += 0.01
    with pytest.raises(ValueError, match="self-test failed, double differs by 0.03"):
        check_self_test(stored, model, same, CPU, tmp_path)
    with torch.no_grad():
        model.factor.fill_(float("nan"))
    with pytest.raises(ValueError, match="self-test failed"):
        check_self_test(stored, model, same, CPU, tmp_path)


def test_first_item_loses_its_padding():
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
    rows = [{"id": "a", "e": 0.1}, {"id": "c", "e": 0.5}, {"id": "b", "e": 0.5}]
    assert [row["id"] for row in worst_first(rows, "e")] == ["b", "c", "a"]
    assert [row["id"] for row in worst_first(rows, "-e")] == ["a", "b", "c"]
