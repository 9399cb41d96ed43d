"""Several processes, whatever the strategy, train as one process that accumulates their batches."""

import os
import time

import pytest
import torch

from src.run import load_run
from src.utils.checkpoint import read_weights
from src.utils.files import read_jsonl
from tests.demo import ROOT, SMALL, experiment, inference
from tests.programs import call_script, finished, group, run_in_processes, start_program
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


@pytest.mark.parametrize(("strategy", "count"), [("ddp", 4), ("fsdp", 2), ("fsdp", 4)])
def test_processes_equal_accumulation(corpus, one, tmp_path, strategy, count):
    options = [*BASELINE, *OPTIONS, f"strategy={strategy}", f"trainer.accumulate={4 // count}"]
    run_in_processes(count, *command("asr_baseline", corpus, tmp_path / "run", *options))
    assert_close(tmp_path / "run", one)
    assert (tmp_path / "run" / "last" / "shard-00001.safetensors").exists() == (strategy == "fsdp")
    system, other = load_run(tmp_path / "run"), load_run(one)
    for name, value in system.model.state_dict().items():
        torch.testing.assert_close(value, other.model.state_dict()[name], rtol=0, atol=1e-6)
    if strategy == "fsdp":
        call_script("publish", tmp_path / "run", tmp_path / "published")
        published = load_run(tmp_path / "published").model.state_dict()
        for name, value in system.model.state_dict().items():
            torch.testing.assert_close(published[name], value, rtol=0, atol=0)
    expected = metrics(tmp_path / "run")
    found = inference("asr", tmp_path / "run")
    same = {key: found[key] for key in found.keys() & expected.keys()}
    assert len(same) > 3 and same == pytest.approx({key: expected[key] for key in same}, rel=1e-5)


def test_a_sharded_run_goes_on_in_whole_processes(corpus, tmp_path):
    """With averaged weights, whose trained ones are sharded in the state."""
    options = [*BASELINE, *OPTIONS, "+trainer.average.ema_decay=0.5", "trainer.test_on=[]"]
    options.remove("trainer.epochs=1")
    for folder, epochs in (("whole", 2), ("stopped", 1)):
        own = [*options, f"trainer.epochs={epochs}", "strategy=fsdp", "scheduler=constant"]
        run_in_processes(2, *command("asr_baseline", corpus, tmp_path / folder, *own))
    more = ["trainer.epochs=2", "strategy=ddp"]
    run_in_processes(2, "train.py", f"trainer.resume_from={tmp_path / 'stopped'}", *more)
    assert_close(tmp_path / "stopped", tmp_path / "whole")
    assert (tmp_path / "stopped" / "last" / "model.safetensors").exists()
    more = ["trainer.epochs=3", "strategy=fsdp"]
    run_in_processes(2, "train.py", f"trainer.resume_from={tmp_path / 'stopped'}", *more)
    assert (tmp_path / "stopped" / "last" / "shard-00000.safetensors").exists()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_process_without_a_batch_waits_for_the_other(corpus, tmp_path, strategy):
    """Batch normalisation is synchronised, so that every process must make a forward pass."""
    options = [*SMALL, *OPTIONS, "+datasets.train.limit=2", "trainer.steps_per_epoch=null"]
    options.remove("+datasets.train.limit=16")
    train(experiment("asr_deepspeech2", corpus, tmp_path / "one", *options))
    own = [*options, f"strategy={strategy}"]
    run_in_processes(2, *command("asr_deepspeech2", corpus, tmp_path / "two", *own))
    assert len(losses(tmp_path / "two")) == 1
    assert_close(tmp_path / "two", tmp_path / "one")


EXACT = """
import torch
import torch.distributed as dist
from src.models.layers.batch_norm import BatchNorm
from src.models.layers.deepspeech.masked_batch_norm import MaskedBatchNorm

dist.init_process_group("gloo")
rank, generator = dist.get_rank(), torch.Generator().manual_seed(0)
lengths = torch.tensor([9, 4, 7, 2])
x = torch.randn(4, 3, 9, generator=generator, dtype=torch.float64)
target = torch.randn(4, 3, 9, generator=generator, dtype=torch.float64)
mask = (torch.arange(9) >= lengths[:, None])[:, None]
x = x * ~mask

class Frames(BatchNorm):  # of [B, C, T] with padding, which counts
    def forward(self, x, mask):
        return super().forward(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).mT

def step(norm, rows, target):
    for _ in range(2):
        inputs = x[rows].clone().requires_grad_()
        norm.zero_grad()
        (norm(inputs, mask[rows]) * target[rows]).sum().backward()
    return inputs.grad

for kind in (Frames, MaskedBatchNorm):
    for counted in (True, False):
        whole, norm = kind(3).double().train(), kind(3).double().train()
        norm.synchronised = True
        rows = slice(3) if rank == 0 else slice(3, 4)
        if not counted and rank == 1:  # it has a batch of the other, of which nothing counts
            rows, norm.counted = slice(1), False
        own = step(norm, rows, target if norm.counted else 0 * target)
        expected = step(whole, slice(None) if counted else slice(3), target)
        if norm.counted:
            torch.testing.assert_close(own, expected[rows] if counted else expected)
        for one, other in zip(norm.parameters(), whole.parameters()):
            dist.all_reduce(one.grad)
            torch.testing.assert_close(one.grad, other.grad)
        for one, other in zip(norm.buffers(), whole.buffers()):
            torch.testing.assert_close(one, other)
dist.destroy_process_group()
"""


def test_batch_norm_of_two_processes_equals_that_of_one_batch(tmp_path):
    (tmp_path / "exact.py").write_text(EXACT)
    run_in_processes(2, tmp_path / "exact.py")


def test_recurrent_layers_batch_norm_and_recomputation(corpus, tmp_path):
    """Sharded and recomputed, DeepSpeech2 trains as it does otherwise."""
    options = [*OPTIONS, "model.hidden_size=16", "trainer.test_on=[]", "trainer.validate_on=[]"]
    options += ["model.num_layers=2", "trainer.monitor=null", "precision=bf16"]
    for strategy in ("ddp", "fsdp"):
        own = [*options, f"strategy={strategy}", f"activation_checkpointing={strategy == 'fsdp'}"]
        run_in_processes(2, *command("asr_deepspeech2", corpus, tmp_path / strategy, *own))
    assert losses(tmp_path / "fsdp") == pytest.approx(losses(tmp_path / "ddp"), rel=1e-3)


PREPARATION = """
import sys, time
from datetime import timedelta
sys.path.insert(0, "ROOT")
import torch
from accelerate import Accelerator
from src.trainer.setup import main_process_first

accelerator = Accelerator(cpu=True)
accelerator.wait_for_everyone()
# The limit of all other waiting, which here is shorter than the preparation.
torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=3))
with main_process_first(accelerator):
    if accelerator.is_main_process:
        time.sleep(5)
    print(time.time())
"""


def test_processes_wait_for_the_preparation_of_data(tmp_path):
    path = tmp_path / "prepare.py"
    path.write_text(PREPARATION.replace("ROOT", str(ROOT)))
    first, second = map(float, run_in_processes(2, path))
    assert second > first


def test_a_process_that_dies_ends_the_other(corpus, tmp_path):
    options = [*BASELINE, *OPTIONS, "trainer.epochs=500", "trainer.process_timeout=20"]
    metrics_path = tmp_path / "run" / "metrics.jsonl"
    with group(2) as environments:
        processes = []
        for rank, environment in enumerate(environments):
            (tmp_path / str(rank)).mkdir()
            arguments = command("asr_baseline", corpus, tmp_path / "run", *options)
            processes.append(start_program(tmp_path / str(rank), *arguments, **environment))
        while not metrics_path.exists():
            assert all(process.is_alive() for process in processes)
            time.sleep(0.02)
        processes[1].kill()
        started = time.monotonic()
        printed = finished(processes[0], tmp_path / "0", code=1).stderr
    assert time.monotonic() - started < 60
    assert printed.splitlines()[-1].startswith("error: process 0: lost the others (")
    assert "Traceback" not in printed
