"""Whole runs: resume, signals, several processes, bad input, inference."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from src.config import check_noise_is_used
from src.run import load_run
from src.trainer.trainer import Trainer
from src.utils.checkpoint import read_tensors
from src.utils.files import read_jsonl
from tests.demo import ENVIRONMENT, ROOT, SMALL, experiment, inference, sine
from tests.programs import run_program, start_program
from train import train

NAME = "asr_deepspeech2"


def arguments_of(corpus, *overrides, program="train.py"):
    own = [f"datasets.train.folder={corpus}", "writer=nothing", "device=cpu", *SMALL]
    return [program, *own, *overrides]


def run(arguments, code=0):
    """The finished process of a fresh interpreter."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done


def weights(run_dir, name="last"):
    return read_tensors(run_dir / name / "model.safetensors")


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """A short run and its metrics."""
    folder = tmp_path_factory.mktemp("run") / "a"
    config = experiment(
        NAME, corpus, folder, *SMALL, "trainer.epochs=2", "trainer.save_every_steps=1"
    )
    os.chdir(ROOT)
    return folder, train(config)


# Resume ------------------------------------------------------------------------------------


def test_killed_and_resumed_equals_uninterrupted(corpus, tmp_path):
    options = [
        "dataloader.num_workers=2",
        "trainer.accumulate=2",
        "trainer.epochs=2",
        "trainer.save_every_steps=1",
        "model.dropout=0.2",
        "trainer.monitor=null",
        "trainer.show_every_epochs=0",
        "report.audio=none",
    ]
    run_program(*arguments_of(corpus, f"run_dir={tmp_path / 'whole'}", *options))
    killed = tmp_path / "killed"
    options.append("trainer.log_every_steps=1")
    process = start_program(tmp_path, *arguments_of(corpus, f"run_dir={killed}", *options))
    while not (
        (killed / "metrics.jsonl").exists()
        and len(read_jsonl(killed / "metrics.jsonl", tolerant=True)) > 1
    ):
        assert process.is_alive(), (tmp_path / "stderr").read_text()
        time.sleep(0.02)
    process.kill()
    process.join()
    steps = [row["step"] for row in read_jsonl(killed / "metrics.jsonl", tolerant=True)]
    assert (killed / "last").exists() or (killed / "last.old").exists()
    run_program("train.py", f"trainer.resume_from={killed}")
    assert_same_weights(weights(killed), weights(tmp_path / "whole"))
    rows = [row["step"] for row in read_jsonl(killed / "metrics.jsonl") if "train/loss" in row]
    assert rows == sorted(set(rows)) and rows[-1] > max(steps)


def assert_stops_change_nothing(name, corpus, tmp_path, *options):
    """A run that is stopped by a signal after each step ends with the weights of one that isn't."""
    options = [*options, "trainer.monitor=null", "trainer.test_on=[]"]
    train(experiment(name, corpus, tmp_path / "whole", *options))
    folder, real = tmp_path / "stopped", Trainer.optimise

    def once(self, batches):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, batches)

    stops = 0
    extra: list[str] = []
    while True:
        config = experiment(name, corpus, folder, *options, *extra)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "optimise", once)
            try:
                train(config)
                break
            except SystemExit as exit:
                assert exit.code == 128 + signal.SIGTERM
                stops += 1
        extra = [f"trainer.resume_from={folder}"]
    assert stops >= 4
    assert_same_weights(weights(folder), weights(tmp_path / "whole"))


@pytest.mark.parametrize("scheduler", ["one_cycle", "warmup_cosine", "cosine"])
def test_finished_run_can_be_extended(corpus, tmp_path, scheduler):
    folder = tmp_path / "run"
    options = [*SMALL, "trainer.test_on=[]", "trainer.log_every_steps=1", f"scheduler={scheduler}"]
    train(experiment(NAME, corpus, folder, *options, "trainer.epochs=1"))
    steps = len(read_jsonl(folder / "metrics.jsonl"))
    more = ["trainer.epochs=3", f"trainer.resume_from={folder}"]
    train(experiment(NAME, corpus, folder, *options, *more), more)
    rates = [row["train/lr"] for row in read_jsonl(folder / "metrics.jsonl") if "train/lr" in row]
    assert len(rates) > 2 * steps and max(rates[len(rates) // 2 :]) > rates[-1] >= 0


def test_resumed_run_keeps_its_precision_and_threads(corpus, tmp_path, monkeypatch):
    folder, threads = tmp_path / "run", []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    options = [*SMALL, "trainer.test_on=[]", "trainer.save_every_steps=1", "trainer.monitor=null"]
    own = ["precision=bf16", "threads=1", "trainer.steps_per_epoch=2"]
    train(experiment(NAME, corpus, tmp_path / "whole", *options, *own, "trainer.epochs=2"))
    train(experiment(NAME, corpus, folder, *options, *own, "trainer.epochs=1"))
    more = ["trainer.epochs=2", f"trainer.resume_from={folder}"]
    train(experiment(NAME, corpus, folder, *more), more)
    assert threads == [1, 1, 1]


def test_infinite_loss_with_finite_gradients_is_discarded(corpus, tmp_path, monkeypatch):
    from src.loss.ctc import CTCLoss

    real = CTCLoss.forward

    def infinite(self, **batch):
        parts = real(self, **batch)
        return {**parts, "loss": parts["loss"] + torch.inf} if self.training else parts

    monkeypatch.setattr(CTCLoss, "forward", infinite)
    with pytest.raises(ValueError, match="2 steps in a row had a non-finite loss"):
        train(experiment(NAME, corpus, tmp_path / "r", *SMALL, "trainer.max_discarded=2"))


@pytest.mark.parametrize("average", ["null", "{ema_decay: 0.9}"])
def test_resume_in_memory_from_any_step(average, corpus, tmp_path):
    options = [*SMALL, "trainer.epochs=2", f"trainer.average={average}"]
    assert_stops_change_nothing(NAME, corpus, tmp_path, *options)


def test_existing_run_is_not_overwritten(corpus, finished):
    folder, _ = finished
    with pytest.raises(FileExistsError, match="holds a run already"):
        train(experiment(NAME, corpus, folder, *SMALL))


# Processes ---------------------------------------------------------------------------------


def test_two_processes_one_run(corpus, tmp_path):
    program = "tests/train_and_check_threads.py"
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
    options = ["trainer.epochs=2", "dataloader.max_seconds=6", "trainer.save_every_steps=1"]
    options += ["dataloader.num_workers=0"]
    run([*torchrun, *arguments_of(corpus, f"runs={tmp_path}", *options, program=program)])
    (folder,) = (tmp_path / NAME).iterdir()
    rows = read_jsonl(folder / "metrics.jsonl")
    assert [row["epoch"] for row in rows if "val/WER" in row] == [0, 1]
    assert (folder / "log.txt").read_text().count(", test:") == 1
    two = {k: v for k, v in rows[-1].items() if k.startswith("test/")}
    assert two["test/WER_reference_length"] > 20
    one = inference("asr", folder)
    assert {name: one[name] for name in two} == two


# Inference ---------------------------------------------------------------------------------


def test_inference_gives_the_metrics_of_training(finished):
    folder, expected = finished
    metrics = inference("asr", folder)
    for name in ("test/WER", "test/CER", "test/loss"):
        assert metrics[name] == expected[name]
    assert "test/WER_beam" in metrics
    assert json.loads((folder / "inference" / "metrics.json").read_text()) == metrics
    table = (folder / "inference" / "test.tsv").read_text().splitlines()
    rates = [float(line.split("\t")[1]) for line in table[1:]]
    assert rates == sorted(rates, reverse=True)
    names = {line.split("\t")[0] for line in table[1:]}
    assert names == {path.stem for path in (folder / "inference" / "test").glob("*.txt")}


def test_inference_on_custom_folder(finished, tmp_path):
    folder, _ = finished
    for i, (ending, rate, channels) in enumerate(
        [("wav", 8000, 1), ("flac", 16000, 2), ("mp3", 44100, 2), ("wav", 44100, 1)]
    ):
        sine(tmp_path / "in" / "audio" / f"{i}.{ending}", rate, 1.0, channels)
    options = ["datasets=custom_dir", f"datasets.test.dir={tmp_path / 'in'}"]
    assert inference("asr", folder, *options, f"output={tmp_path / 'out'}") == {}
    assert sorted(p.name for p in (tmp_path / "out" / "test").iterdir()) == [
        f"{i}.txt" for i in range(4)
    ]
    (tmp_path / "in" / "transcriptions").mkdir()
    for i in range(4):
        (tmp_path / "in" / "transcriptions" / f"{i}.txt").write_text("Hello!")
    metrics = inference("asr", folder, *options, f"output={tmp_path / 'out'}")
    assert metrics["test/WER_reference_length"] == 4


def test_load_run(finished, corpus):
    folder, _ = finished
    recognise = load_run(folder)
    path = next((corpus / "audio").rglob("*.flac"))
    text = recognise(path)
    assert isinstance(text, str)
    assert recognise([str(path), path]) == [text, text]
    samples = torch.zeros(2, 8000)
    assert recognise(samples, 8000) == recognise((samples[0].numpy(), 8000))
    with pytest.raises(ValueError, match="need a sample rate"):
        recognise(samples)
    with pytest.raises(FileNotFoundError, match=r"none.wav"):
        recognise("none.wav")


# Bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+model.nonsense=1"], "model.nonsense: no such key"),
        (["trainer.monitor=val/WRE"], "wanted one of .*val/WER"),
        (["+datasets.train.nonsense=1"], "datasets.train.nonsense: no such key"),
        (["init=model", "init.model.source=none"], "none"),
        (["init=model"], "init.model.source: must be given"),
        (["+foo=1"], "foo: no such key"),
        (["+dataloader.foo=1"], "dataloader.foo: unknown"),
        (["seed=abc"], "seed: 'abc'"),
        (["threads=-1"], "threads: -1"),
        (["optimizer.lr=-1"], "[Ll]earning rate: -1"),
        (["trainer.max_grad_norm=-1"], "max_grad_norm: -1"),
        (["dataloader.max_items=-1"], "max_items: -1"),
        (["dataloader.max_seconds=null"], "max_seconds: null"),
        (["writer=wandb", "writer.mode=onlin"], "writer.mode"),
        (["trainer.resume_from=none"], "none: no run here"),
        (["precision=fp8"], "precision"),
        (["device=tpu"], "device: 'tpu'; auto, cpu or cuda"),
        (["device=null"], "device: null; auto, cpu or cuda"),
        pytest.param(
            ["device=cuda"],
            "device: cuda; there is no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (["dataloader.max_seconds=1"], "max_seconds"),
        (["trainer.validate_on=[dev]"], "validate_on: 'dev'; names of val"),
    ],
)
def test_bad_input_raises_before_training(corpus, tmp_path, overrides, words):
    config = experiment(NAME, corpus, tmp_path / "r", *SMALL, *overrides)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        train(config)
    assert not (tmp_path / "r" / "last").exists()


def test_bad_input_prints_one_line(corpus, tmp_path):
    place = f"run_dir={tmp_path / 'r'}"
    done = run(arguments_of(corpus, place, "trainer.monitor=val/WRE"), code=1)
    assert done.stderr.splitlines()[-1].startswith(
        "error: config, trainer.monitor: 'val/WRE'; wanted one of"
    )
    assert "Traceback" not in done.stderr
    done = run_program(*arguments_of(corpus, place, "trainer.nonsense=1"), code=1)
    assert "trainer.nonsense" in done.stderr and "Traceback" not in done.stderr


def test_checkpoint_of_other_model_raises(corpus, finished, tmp_path):
    folder, _ = finished
    options = [*SMALL, "init=model", f"init.model.source={folder}", "model.num_layers=3"]
    with pytest.raises(ValueError, match="weights of another model"):
        train(experiment(NAME, corpus, tmp_path / "x", *options))


def test_initialization_from_run(corpus, finished, tmp_path):
    folder, _ = finished
    options = [*SMALL, "init=model", f"init.model.source={folder}", "trainer.epochs=1"]
    options += ["optimizer.lr=0", "trainer.steps_per_epoch=1", "trainer.test_on=[]"]
    train(experiment(NAME, corpus, tmp_path / "x", *options))
    loaded, wanted = weights(tmp_path / "x"), weights(folder, "best")
    for name in (name for name in wanted if "running" not in name):
        assert torch.equal(loaded[name], wanted[name])


def corrupt_copy(corpus, folder):
    import shutil

    copy = shutil.copytree(corpus, folder)
    row = json.loads((copy / "train.jsonl").read_text().splitlines()[3])
    path = copy / row["audio_filepath"]
    path.write_bytes(path.read_bytes()[:200])
    return copy, path.name


def test_corrupt_file_raises_or_is_skipped(corpus, tmp_path):
    copy, name = corrupt_copy(corpus, tmp_path / "corpus")
    options = [f"run_dir={tmp_path / 'r'}", "trainer.epochs=1"]
    done = run_program(*arguments_of(copy, *options, "dataloader.num_workers=1"), code=1)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and name in last
    options = [
        *SMALL,
        "trainer.epochs=1",
        "+datasets.train.on_error=skip",
        "trainer.log_every_steps=1",
    ]
    train(experiment(NAME, copy, tmp_path / "r", *options))
    assert name in (tmp_path / "r" / "log.txt").read_text()
    rows = read_jsonl(tmp_path / "r" / "metrics.jsonl")
    assert max(row.get("train/skipped_files", 0) for row in rows) == 1


def test_non_finite_loss_does_not_change_weights(corpus, tmp_path, monkeypatch):
    from src.loss.ctc import CTCLoss

    real, calls = CTCLoss.forward, []

    def poisoned(self, **batch):
        outputs = real(self, **batch)
        if self.training:
            calls.append(batch["id"])
            outputs["loss"] = outputs["loss"] * (float("nan") if len(calls) == 3 else 1)
        return outputs

    monkeypatch.setattr(CTCLoss, "forward", poisoned)
    options = [*SMALL, "trainer.epochs=1", "trainer.log_every_steps=1", "trainer.test_on=[]"]
    train(experiment(NAME, corpus, tmp_path / "r", *options))
    assert all(v.isfinite().all() for v in weights(tmp_path / "r").values())
    log = (tmp_path / "r" / "log.txt").read_text()
    assert f"step 3 discarded, non-finite loss or gradient: {', '.join(calls[2])}" in log
    rows = [row for row in read_jsonl(tmp_path / "r" / "metrics.jsonl") if "train/loss" in row]
    assert rows[-1]["train/discarded_steps"] == 1


def test_what_cannot_be_evaluated_ends_before_the_first_step(corpus, tmp_path):
    beam = ["+metrics.WER_beam._target_=src.metrics.wer.WER"]
    beam += ["+metrics.WER_beam.prediction=prediction_beam"]
    with pytest.raises(ValueError, match=r"^val: .*'prediction_beam'"):
        train(experiment(NAME, corpus, tmp_path / "r", *SMALL, *beam))
    assert not (tmp_path / "r" / "metrics.jsonl").exists()


def test_noise_that_is_missing_or_not_used_raises(corpus, tmp_path):
    noise = f"noise={tmp_path}/none.jsonl"
    small = [*SMALL, "transforms=asr_small", "transforms.batch.train.noise.p=0.0"]
    with pytest.raises(FileNotFoundError, match="none.jsonl: no such manifest"):
        train(experiment(NAME, corpus, tmp_path / "r", *small, noise))
    unused = experiment(NAME, corpus, tmp_path / "s", *SMALL, "transforms=asr", noise)
    with pytest.raises(ValueError, match=r"config, noise: nothing adds .*none.jsonl"):
        train(unused, [noise])
    assert not (tmp_path / "s").exists()
    check_noise_is_used(unused, [noise, "debug=overfit"])


def test_repeated_non_finite_losses_raise(corpus, tmp_path, monkeypatch):
    from src.loss.ctc import CTCLoss

    real = CTCLoss.forward
    monkeypatch.setattr(
        CTCLoss, "forward", lambda self, **b: {k: v * torch.inf for k, v in real(self, **b).items()}
    )
    options = [*SMALL, "trainer.max_discarded=2"]
    with pytest.raises(ValueError, match="2 steps in a row"):
        train(experiment(NAME, corpus, tmp_path / "r", *options))
