"""train.py -m: a run folder for each job, one table, and jobs that fail."""

import csv
import json
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from hydra_plugins.slurm_launcher import SlurmLauncher
from src.trainer.sweep import result_path, table
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
