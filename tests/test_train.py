"""Whole runs: resume, signals, several processes, bad input, inference."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from inference import infer
from src.run import load_run
from src.trainer.checkpoint import read_tensors
from src.trainer.trainer import Trainer
from src.utils.files import read_jsonl
from tests.demo import CONFIGS, SMALL, experiment, sine
from train import train

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
NAME = "asr_deepspeech2"


def command(corpus, *overrides, program=("train.py",)):
    own = [f"datasets.train.folder={corpus}", "writer=nothing", "device=cpu", *SMALL]
    return [sys.executable, *program, *own, *overrides]


def run(arguments, code=0):
    done = subprocess.run(
        arguments, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300
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
    """A short run and its figures."""
    folder = tmp_path_factory.mktemp("run") / "a"
    config = experiment(NAME, corpus, folder, *SMALL, "trainer.epochs=2", "trainer.save_every=1")
    os.chdir(ROOT)
    return folder, train(config)


def inference(folder, *overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return infer(compose("inference_asr", overrides=[f"run={folder}", *overrides]))


# Resume ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_equals_never_stopped(corpus, tmp_path, workers):
    options = [
        f"dataloader.num_workers={workers}",
        "trainer.accumulate=2",
        "trainer.epochs=3",
        "trainer.save_every=1",
        "model.dropout=0.2",
        "trainer.monitor=null",
    ]
    run(command(corpus, f"run_dir={tmp_path / 'whole'}", *options))
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        command(corpus, f"run_dir={killed}", *options, "trainer.log_every=1"),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (
        (killed / "metrics.jsonl").exists() and len(read_jsonl(killed / "metrics.jsonl")) > 1
    ):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    steps = [row["step"] for row in read_jsonl(killed / "metrics.jsonl")]
    assert (killed / "last").exists() or (killed / "last.old").exists()
    run(command(corpus, f"trainer.resume_from={killed}")[:2] + [f"trainer.resume_from={killed}"])
    assert_same_weights(weights(killed), weights(tmp_path / "whole"))
    rows = [row["step"] for row in read_jsonl(killed / "metrics.jsonl") if "train/loss" in row]
    assert rows == sorted(set(rows)) and rows[-1] > max(steps)


def assert_stops_change_nothing(name, corpus, tmp_path, *options):
    """Stop after each step by a signal to ourselves; the end is the same."""
    options = [*options, "trainer.monitor=null", "trainer.test_splits=[]"]
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


def test_a_finished_run_can_be_made_longer(corpus, tmp_path):
    folder = tmp_path / "run"
    options = [*SMALL, "trainer.test_splits=[]", "trainer.log_every=1"]
    train(experiment(NAME, corpus, folder, *options, "trainer.epochs=1"))
    more = ["trainer.epochs=3", f"trainer.resume_from={folder}"]
    train(experiment(NAME, corpus, folder, *options, *more))
    rates = [row["train/lr"] for row in read_jsonl(folder / "metrics.jsonl") if "train/lr" in row]
    assert len(rates) >= 6 and max(rates[len(rates) // 3 :]) > rates[-1] > 0


def test_resume_in_memory_from_any_step(corpus, tmp_path):
    assert_stops_change_nothing(NAME, corpus, tmp_path, *SMALL, "trainer.epochs=2")


def test_resumed_run_takes_new_values_only(corpus, finished, tmp_path):
    folder, _ = finished
    for override, words in (
        ("model=baseline", "goes on with its own model"),
        ("trainer.epoochs=3", "not in the config"),
        ("optimizer.lr=5", "goes on with its own optimizer"),
    ):
        from src.build import overlay
        from src.trainer.run_folder import RunFolder

        with pytest.raises(ValueError, match=words):
            overlay(RunFolder.open(folder).read_config(), [override])
    config = RunFolder.open(folder).read_config()
    overlay(config, ["trainer.epochs=7", f"trainer.resume_from={folder}"])
    assert config.trainer.epochs == 7


def test_a_folder_with_a_run_is_not_overwritten(corpus, finished):
    folder, _ = finished
    with pytest.raises(FileExistsError, match="holds a run already"):
        train(experiment(NAME, corpus, folder, *SMALL))


# Processes ---------------------------------------------------------------------------------


def test_two_processes_one_run(corpus, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "train.py")
    options = ["trainer.epochs=2", "dataloader.max_seconds=6", "trainer.save_every=1"]
    options += ["dataloader.num_workers=0"]
    run(command(corpus, f"runs={tmp_path}", *options, program=torchrun))
    (folder,) = (tmp_path / NAME).iterdir()
    rows = read_jsonl(folder / "metrics.jsonl")
    assert [row["epoch"] for row in rows if "val/WER" in row] == [0, 1]
    assert (folder / "log.txt").read_text().count(", test:") == 1
    two = {k: v for k, v in rows[-1].items() if k.startswith("test/")}
    assert two["test/WER_reference_length"] > 20
    one = inference(folder)
    assert {name: one[name] for name in two} == two


# Inference ---------------------------------------------------------------------------------


def test_inference_gives_the_figures_of_training(finished):
    folder, figures = finished
    found = inference(folder)
    for name in ("test/WER", "test/CER", "test/loss"):
        assert found[name] == figures[name]
    assert "test/WER_beam" in found
    assert json.loads((folder / "inference" / "metrics.json").read_text()) == found
    table = (folder / "inference" / "test.tsv").read_text().splitlines()
    rates = [float(line.split("\t")[1]) for line in table[1:]]
    assert rates == sorted(rates, reverse=True)
    names = {line.split("\t")[0] for line in table[1:]}
    assert names == {path.stem for path in (folder / "inference" / "test").glob("*.txt")}


def test_inference_on_a_folder_of_ones_own(finished, tmp_path):
    folder, _ = finished
    for i, (ending, rate, channels) in enumerate(
        [("wav", 8000, 1), ("flac", 16000, 2), ("mp3", 44100, 2), ("wav", 44100, 1)]
    ):
        sine(tmp_path / "in" / "audio" / f"{i}.{ending}", rate, 1.0, channels)
    options = ["datasets=custom_dir", f"datasets.test.dir={tmp_path / 'in'}"]
    assert inference(folder, *options, f"output={tmp_path / 'out'}") == {}
    assert sorted(p.name for p in (tmp_path / "out" / "test").iterdir()) == [
        f"{i}.txt" for i in range(4)
    ]
    (tmp_path / "in" / "transcriptions").mkdir()
    for i in range(4):
        (tmp_path / "in" / "transcriptions" / f"{i}.txt").write_text("Hello!")
    found = inference(folder, *options, f"output={tmp_path / 'out'}")
    assert found["test/WER_reference_length"] == 4


def test_a_run_as_a_callable(finished, corpus):
    folder, _ = finished
    recognise = load_run(folder)
    path = next((corpus / "audio").rglob("*.flac"))
    text = recognise(path)
    assert isinstance(text, str)
    assert recognise([str(path), path]) == [text, text]
    samples = torch.zeros(2, 8000)
    assert recognise(samples, 8000) == recognise((samples[0].numpy(), 8000))
    with pytest.raises(ValueError, match="need their rate"):
        recognise(samples)
    with pytest.raises(FileNotFoundError, match=r"none.wav"):
        recognise("none.wav")


def test_a_changed_checkpoint_fails_its_self_test(finished, tmp_path):
    import shutil

    from src.trainer.checkpoint import save_tensors

    folder, _ = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    changed = weights(copy, "best")
    changed = {k: v * 1.05 if v.is_floating_point() else v for k, v in changed.items()}
    save_tensors(copy / "best" / "model.safetensors", changed)
    with pytest.raises(ValueError, match="self-test failed"):
        load_run(copy)


# Bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+model.nonsense=1"], "model: .*nonsense"),
        (["trainer.monitor=min val/WRE"], "there are .*val/WER"),
        (["+datasets.train.nonsense=1"], "datasets.train: .*nonsense"),
        (["trainer.from_pretrained=none"], "none"),
        (["trainer.resume_from=none"], "none: no run here"),
        (["precision=fp8"], "precision"),
        (["device=tpu"], "device"),
        (["dataloader.max_seconds=1"], "max_seconds"),
        (["trainer.validation_splits=[dev]"], "dev"),
    ],
)
def test_bad_input_is_named_before_any_step(corpus, tmp_path, overrides, words):
    config = experiment(NAME, corpus, tmp_path / "r", *SMALL, *overrides)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        train(config)
    assert not (tmp_path / "r" / "last").exists()


def test_bad_input_is_one_sentence_on_the_command_line(corpus, tmp_path):
    place = f"run_dir={tmp_path / 'r'}"
    done = run(command(corpus, place, "trainer.monitor=min val/WRE"), code=1)
    assert done.stderr.splitlines()[-1].startswith("error: trainer.monitor: no figure is called")
    assert "Traceback" not in done.stderr
    done = run(command(corpus, place, "trainer.nonsense=1"), code=1)
    assert "trainer.nonsense" in done.stderr and "Traceback" not in done.stderr


def test_checkpoint_of_another_model(corpus, finished, tmp_path):
    folder, _ = finished
    options = [*SMALL, f"trainer.from_pretrained={folder}", "model.layers=3"]
    with pytest.raises(ValueError, match="weights of another model"):
        train(experiment(NAME, corpus, tmp_path / "x", *options))


def test_start_from_pretrained(corpus, finished, tmp_path):
    folder, _ = finished
    options = [*SMALL, f"trainer.from_pretrained={folder}", "trainer.epochs=1"]
    options += ["optimizer.lr=0", "trainer.steps_per_epoch=1", "trainer.test_splits=[]"]
    train(experiment(NAME, corpus, tmp_path / "x", *options))
    found, wanted = weights(tmp_path / "x"), weights(folder, "best")
    for name in (name for name in wanted if "running" not in name):
        assert torch.equal(found[name], wanted[name])


def corrupt_copy(corpus, folder):
    import shutil

    copy = shutil.copytree(corpus, folder)
    row = json.loads((copy / "train.jsonl").read_text().splitlines()[3])
    path = copy / row["audio_filepath"]
    path.write_bytes(path.read_bytes()[:200])
    return copy, path.name


def test_a_corrupt_file_in_mid_epoch(corpus, tmp_path):
    copy, name = corrupt_copy(corpus, tmp_path / "corpus")
    options = [f"run_dir={tmp_path / 'r'}", "trainer.epochs=1"]
    done = run(command(copy, *options, "dataloader.num_workers=1"), code=1)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and name in last
    options = [*SMALL, "trainer.epochs=1", "+datasets.train.on_error=skip", "trainer.log_every=1"]
    train(experiment(NAME, copy, tmp_path / "r", *options))
    assert name in (tmp_path / "r" / "log.txt").read_text()
    rows = read_jsonl(tmp_path / "r" / "metrics.jsonl")
    assert max(row.get("train/skipped_files", 0) for row in rows) == 1


def test_non_finite_loss_never_reaches_the_weights(corpus, tmp_path, monkeypatch):
    from src.loss.ctc import CTCLoss

    real, calls = CTCLoss.forward, []

    def poisoned(self, **batch):
        found = real(self, **batch)
        calls.append(batch["id"])
        if len(calls) == 3:
            found["loss"] = found["loss"] * float("nan")
        return found

    monkeypatch.setattr(CTCLoss, "forward", poisoned)
    options = [*SMALL, "trainer.epochs=1", "trainer.log_every=1", "trainer.test_splits=[]"]
    train(experiment(NAME, corpus, tmp_path / "r", *options))
    assert all(v.isfinite().all() for v in weights(tmp_path / "r").values())
    log = (tmp_path / "r" / "log.txt").read_text()
    assert f"step 3 discarded, non-finite loss or gradient: {', '.join(calls[2])}" in log
    rows = [row for row in read_jsonl(tmp_path / "r" / "metrics.jsonl") if "train/loss" in row]
    assert rows[-1]["train/discarded_steps"] == 1


def test_a_run_of_non_finite_losses_stops(corpus, tmp_path, monkeypatch):
    from src.loss.ctc import CTCLoss

    real = CTCLoss.forward
    monkeypatch.setattr(
        CTCLoss, "forward", lambda self, **b: {k: v * torch.inf for k, v in real(self, **b).items()}
    )
    options = [*SMALL, "trainer.max_discarded=2"]
    with pytest.raises(ValueError, match="2 steps in a row"):
        train(experiment(NAME, corpus, tmp_path / "r", *options))
