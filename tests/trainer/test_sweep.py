"""train.py -m: a run folder for each job, one table, and jobs that fail."""

import csv
import json
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from hydra_plugins.slurm_launcher import SlurmLauncher
from src.trainer.sweep import result_path, run_job, table
from tests.demo import SMALL, run_script


def test_sweep(corpus, tmp_path):
    options = [f"datasets.train.folder={corpus}", f"runs={tmp_path}", *SMALL, "device=cpu"]
    options += ["debug=smoke", "writer=nothing", "threads=1", "optimizer.lr=1e-3,-1,2e-3"]
    done = run_script("../train", "-m", *options, code=1)
    assert done.stderr.count("error: ") == 1 and "optimizer" in done.stderr
    (sweep,) = (tmp_path / "asr_deepspeech2").iterdir()
    with (sweep / "sweep.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["run"] for row in rows] == [str(sweep / str(number)) for number in range(3)]
    assert [row["optimizer.lr"] for row in rows] == ["0.001", "-1", "0.002"]
    assert [bool(row["val/WER"]) for row in rows] == [True, False, True]
    assert (sweep / "2" / "last" / "model.safetensors").exists()
    lines = done.stdout.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("job "))
    assert "val/WER" in lines[header] and "failed" in lines[header + 2]


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A function that runs a job of a sweep with overrides."""

    def run(number, train, *overrides):
        task = SimpleNamespace(task=list(overrides))
        sweep, own = SimpleNamespace(dir=str(tmp_path)), SimpleNamespace(num=number)
        hydra = SimpleNamespace(sweep=sweep, job=own, overrides=task)
        monkeypatch.setattr("src.trainer.sweep.HydraConfig", SimpleNamespace(get=lambda: hydra))
        trainer = {"resume_from": None, "monitor": "val/WER"}
        config = OmegaConf.create({"trainer": trainer, "fit": False, "run_dir": None})
        return run_job(config, train)

    return run


def failing():
    raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")


@pytest.mark.parametrize("shown", ["", "1"])
def test_a_defect_fails_the_job_alone(job, tmp_path, monkeypatch, caplog, shown):
    monkeypatch.setenv("TRIPHONE_TRACEBACK", shown)
    assert job(0, failing, "seed=1") is None
    assert "size of tensor a" in caplog.text and "in failing" in caplog.text
    assert json.loads(result_path(tmp_path, 0).read_text())["failed"]
    assert job(1, lambda: {"val/WER": 0.5}, "seed=2") == 0.5


def test_a_sweep_that_is_started_again_keeps_what_has_finished(job, tmp_path):
    assert job(0, lambda: {"val/WER": 0.5}, "seed=1") == 0.5
    job(1, failing, "seed=2")
    before = result_path(tmp_path, 0).read_text()
    assert job(0, failing, "seed=1") == 0.5
    assert job(1, lambda: {"val/WER": 0.4}, "seed=2") == 0.4
    assert result_path(tmp_path, 0).read_text() == before
    with pytest.raises(ValueError, match=r"job_0.json: of another sweep \(seed=1\); name another"):
        job(0, failing, "seed=3")


def test_a_job_that_was_killed_is_in_the_table(tmp_path, capsys):
    utils = pytest.importorskip("submitit.core.utils")

    def killed():
        told = "Job 7_1 (task: 0) with path 7_1.pkl\nhas not produced any output (state: FAILED)"
        raise utils.UncompletedJobError(f"{told}\nError stream produced:\n---")

    launcher = SlurmLauncher("", OmegaConf.create({}))
    launcher.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    done = {"job": 0, "overrides": ["seed=1"], "run": "r0", "monitor": "val/WER"}
    result_path(tmp_path, 0).write_text(json.dumps(done | {"values": {"val/WER": 0.5}}))
    assert launcher.result(SimpleNamespace(results=lambda: [3]), 0, ["seed=1"]) == 3
    job = SimpleNamespace(results=killed)
    for number in (0, 1):  # the first one had written its values before
        assert launcher.result(job, number, [f"seed={number + 1}"]).return_value is None
    told = "Job 7_1 (task: 0) with path 7_1.pkl has not produced any output (state: FAILED)"
    assert capsys.readouterr().err == f"error: job 1 of the sweep: {told}\n"
    jobs = [json.loads(result_path(tmp_path, number).read_text()) for number in (1, 0)]
    lines = table(jobs).splitlines()
    assert lines[0].split() == ["job", "overrides", "val/WER", "run"]
    assert lines[1].split() == ["1", "seed=2", "failed", str(tmp_path / "1")]
    assert lines[2].split() == ["0", "seed=1", "0.5", "r0"]
