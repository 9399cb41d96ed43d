"""SIGINT and SIGTERM at any time: an exit code, one line, a whole checkpoint, an equal end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

import inference
from src.datasets.recognition import RecognitionDataset
from src.run import Run
from src.system import System
from src.trainer import signals
from src.trainer.trainer import Trainer
from src.utils.entry import run_command
from src.utils.files import read_jsonl
from tests.demo import CONFIGS, experiment
from tests.programs import run_in_processes
from tests.test_kills import OPTIONS, check, result
from train import train

ROOT = Path(__file__).parents[1]
LONGER = [*OPTIONS, "trainer.epochs=2", *(f"datasets.{k}.limit=8" for k in ("val", "test"))]
BATCHES = 4  # of an evaluation


class Sender:
    """Sends this process a signal at the n-th call of a method, and counts the calls after it."""

    def __init__(self, patch, owner, method, n, number=signal.SIGTERM):
        self.calls, self.n, self.number = 0, n, number
        real = getattr(owner, method)

        def replaced(*arguments, **options):
            self.calls += 1
            if self.calls == n:
                os.kill(os.getpid(), number)
            return real(*arguments, **options)

        patch.setattr(owner, method, replaced)

    @property
    def calls_after(self):
        return self.calls - self.n


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """A run that was never stopped, what it holds, and its values."""
    folder = tmp_path_factory.mktemp("signals") / "whole"
    os.chdir(ROOT)
    values = train(experiment("asr_baseline", corpus, folder, *LONGER))
    return folder, result(folder), values


def assert_stopped(command, capfd, number):
    """A command ends by a signal, with one line."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as exit:
        run_command(command)
    printed = capfd.readouterr().err
    assert exit.value.code == 128 + number
    assert "Traceback" not in printed and "Error" not in printed
    last = [line for line in printed.replace("\r", "\n").split("\n") if line.strip()][-1]
    assert "topped by" in last, printed
    assert signal.Signals(number).name in last
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


POINTS = {  # what is called at the time, which call it is, and how many calls may follow
    "reading data": (RecognitionDataset, "__init__", 1, 0),
    "reading more data": (RecognitionDataset, "__init__", 3, 0),
    "writing the config": (Run, "save_config", 1, 0),
    "the first step": (Trainer, "optimise", 1, 0),
    "the last step": (Trainer, "optimise", 4, 0),
    "validation": (System, "evaluation_step", 1, 1),
    "the end of validation": (System, "evaluation_step", BATCHES, 1),
    "the last validation": (System, "evaluation_step", BATCHES + 2, 1),
    "the last batch of it": (System, "evaluation_step", 2 * BATCHES, 1),
    "the first save": (Run, "save", 1, 1),
    "saving the best": (Run, "save", 3, 1),
    "the last save": (Run, "save", 7, 1),
    "loading the best": (Run, "load_weights", 1, 0),
    "the test": (System, "evaluation_step", 2 * BATCHES + 1, 1),
    "the last batch of the test": (System, "evaluation_step", 3 * BATCHES, 0),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_signal_at_any_time(corpus, whole, tmp_path, monkeypatch, capfd, point):
    folder, (_, wanted, values) = tmp_path / "run", whole
    owner, method, n, most_after = POINTS[point]
    number = signal.SIGINT if len(point) % 2 else signal.SIGTERM
    with monkeypatch.context() as patch:
        sender = Sender(patch, owner, method, n, number)
        config = experiment("asr_baseline", corpus, folder, *LONGER)
        assert_stopped(lambda: train(config), capfd, number)
        assert 0 <= sender.calls_after <= most_after
    for name in ("best", "last"):
        assert not (folder / name).exists() or Run.open(folder).has(name)
    again = [f"trainer.resume_from={folder}"] if (folder / "last").exists() else []
    assert train(experiment("asr_baseline", corpus, folder, *LONGER, *again)) == values
    check(folder, whole[0], wanted)


def test_data_that_fail_after_a_signal(corpus, whole, tmp_path, monkeypatch, capfd):
    """The exit code is that of the signal, so that a job goes on from its last checkpoint."""
    folder, calls, real = tmp_path / "run", 0, RecognitionDataset.__getitem__

    def fail(self, key):
        nonlocal calls
        calls += 1
        if calls == 6:
            os.kill(os.getpid(), signal.SIGTERM)
            raise OSError("the store is gone.")
        return real(self, key)

    config = experiment("asr_baseline", corpus, folder, *LONGER)
    with monkeypatch.context() as patch:
        patch.setattr(RecognitionDataset, "__getitem__", fail)
        with pytest.raises(SystemExit) as exit:
            run_command(lambda: train(config))
    assert exit.value.code == 128 + signal.SIGTERM and calls == 6
    assert "the store is gone. Stopped by SIGTERM before that." in capfd.readouterr().err
    assert Run.open(folder).has("last")
    resume = f"trainer.resume_from={folder}"
    assert train(experiment("asr_baseline", corpus, folder, *LONGER, resume)) == whole[2]
    check(folder, whole[0], whole[1])


def test_a_signal_in_inference(whole, tmp_path, monkeypatch, capfd):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        overrides = [f"run={whole[0]}", f"output={tmp_path}"]
        config = compose("inference_asr", overrides=overrides)
    for owner, method, n in (
        (RecognitionDataset, "__init__", 1),
        (System, "evaluation_step", 3),
        (inference.Inferencer, "finish", 1),
    ):
        for number in (signal.SIGINT, signal.SIGTERM):
            with monkeypatch.context() as patch:
                Sender(patch, owner, method, n, number)
                assert_stopped(lambda: inference.infer(config), capfd, number)
    values = inference.infer(config)
    assert {key: values[key] for key in values.keys() & whole[2].keys()}["test/WER"] == 1
    assert [path.name for path in tmp_path.glob(".*")] == [".inference.json"]


# The second signal -------------------------------------------------------------------------


def hang(*arguments):
    time.sleep(60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_acts_at_once(corpus, tmp_path, monkeypatch, capfd, number):
    monkeypatch.setattr(Trainer, "optimise", hang)
    monkeypatch.setattr(signals, "RELAYED", 0.1)

    def send():
        while signal.getsignal(number) is before:
            time.sleep(0.01)
        for _ in range(2):
            time.sleep(0.5)
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    config = experiment("asr_baseline", corpus, tmp_path / "run", *LONGER)
    sender = threading.Thread(target=send)

    def command():
        nonlocal before
        before = signal.getsignal(number)
        sender.start()
        train(config)

    started = time.monotonic()
    assert_stopped(command, capfd, number)
    assert time.monotonic() - started < 20
    sender.join()


# Programs ----------------------------------------------------------------------------------


def start(*arguments):
    """A program in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def stop_when(process, ready, number):
    """Send a signal to the program's process group once `ready()`; returns what it printed."""
    while not ready():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.killpg(process.pid, number)
    return process.communicate(timeout=60)[1]


def arguments_of(corpus, folder):
    own = [f"datasets.train.folder={corpus}", f"run_dir={folder}", "writer=nothing", "device=cpu"]
    return "train.py", "-cn=asr_baseline", *own, *LONGER


def test_a_signal_to_a_program_that_starts(corpus, tmp_path):
    process = start(*arguments_of(corpus, tmp_path / "run"))
    printed = stop_when(process, (tmp_path / "run" / "log.txt").exists, signal.SIGINT)
    assert process.returncode == 130 and "Traceback" not in printed
    assert "topped by SIGINT" in printed


def test_a_signal_to_two_processes(corpus, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone")
    options = ("trainer.steps_per_epoch=40", "dataloader.num_workers=0", "trainer.epochs=1")
    metrics = tmp_path / "run" / "metrics.jsonl"
    process = start(*torchrun, *arguments_of(corpus, tmp_path / "run"), *options)
    printed = stop_when(process, metrics.exists, signal.SIGTERM)
    assert process.returncode != 0
    assert printed.count("Stopped by SIGTERM at step ") == 1
    steps = [row["step"] for row in read_jsonl(metrics)]
    assert f"Stopped by SIGTERM at step {steps[-1]};" in printed and steps[-1] < 40
    run_in_processes(2, "train.py", f"trainer.resume_from={tmp_path / 'run'}")
    steps = [row["step"] for row in read_jsonl(metrics) if "train/loss" in row]
    assert steps == list(range(1, 41))


class Meanwhile:
    """Of two processes, the first of which gets a signal while they exchange their flags."""

    num_processes, device = 2, "cpu"

    def __init__(self, stop):
        self.stop, self.other = stop, 0

    def gather(self, flag):
        self.stop.record(signal.SIGTERM, None)
        return torch.cat([flag, torch.tensor([self.other])])


def test_a_signal_during_the_exchange_is_not_lost():
    stop = signals.StopSignal()
    processes = Meanwhile(stop)
    assert not stop.agreed(processes) and stop.number == signal.SIGTERM
    assert stop.agreed(processes)
    other = signals.StopSignal()
    processes = Meanwhile(other)
    processes.other = signal.SIGUSR1
    assert other.agreed(processes) and other.number == signal.SIGUSR1
