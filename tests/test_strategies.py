"""Several processes, whatever the strategy, train as one process that accumulates their batches."""

import os

import pytest
import torch

from src.run import load_run
from src.utils.checkpoint import read_weights
from src.utils.files import read_jsonl
from tests.demo import ROOT, experiment, inference
from tests.programs import run_in_processes
from train import train

OPTIONS = (
    "+datasets.train.limit=16",
    "+datasets.val.limit=4",
    "+datasets.test.limit=4",
    "dataloader.max_items=2",
    "trainer.epochs=1",
    "trainer.steps_per_epoch=2",
    "trainer.log_every_steps=1",
    "trainer.show_every_epochs=0",
    "trainer.save_every_steps=1",
    "report.audio=none",
    "threads=1",
)
BASELINE = ("model.hidden_size=8", "model.kernel_size=3", "features.n_mels=8")


def command(name, corpus, folder, *options):
    """The arguments of a program that trains."""
    own = [f"datasets.train.folder={corpus}", f"run_dir={folder}", "dataloader.num_workers=0"]
    own += ["writer=nothing", "device=cpu"]
    return ["train.py", f"-cn={name}", *own, *options]


def losses(folder):
    return [
        row["train/loss"] for row in read_jsonl(folder / "metrics.jsonl") if "train/loss" in row
    ]


def metrics(folder):
    """Of the evaluations."""
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if "train/loss" not in row]
    return {k: v for row in rows for k, v in row.items() if k.startswith(("val/", "test/"))}


def assert_close(folder, other):
    """Two runs have the same losses, weights and evaluations."""
    assert losses(folder) == pytest.approx(losses(other), rel=1e-6)
    assert metrics(folder) == pytest.approx(metrics(other), rel=1e-5)
    theirs = read_weights(other / "last")
    for name, value in read_weights(folder / "last").items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-6, msg=name)


@pytest.fixture(scope="module")
def one(corpus, tmp_path_factory):
    """A run of one process that accumulates four batches."""
    folder = tmp_path_factory.mktemp("processes") / "one"
    os.chdir(ROOT)
    train(experiment("asr_baseline", corpus, folder, *BASELINE, *OPTIONS, "trainer.accumulate=4"))
    return folder


@pytest.mark.parametrize(("strategy", "count"), [("ddp", 4), ("fsdp", 2)])
def test_processes_equal_accumulation(corpus, one, tmp_path, strategy, count):
    options = [*BASELINE, *OPTIONS, f"strategy={strategy}", f"trainer.accumulate={4 // count}"]
    run_in_processes(count, *command("asr_baseline", corpus, tmp_path / "run", *options))
    assert_close(tmp_path / "run", one)
    assert (tmp_path / "run" / "last" / "shard-00001.safetensors").exists() == (strategy == "fsdp")
    system, other = load_run(tmp_path / "run"), load_run(one)
    for name, value in system.model.state_dict().items():
        torch.testing.assert_close(value, other.model.state_dict()[name], rtol=0, atol=1e-6)
    expected = metrics(tmp_path / "run")
    found = inference("asr", tmp_path / "run")
    same = {key: found[key] for key in found.keys() & expected.keys()}
    assert len(same) > 3 and same == pytest.approx({key: expected[key] for key in same}, rel=1e-5)
