"""A run that is killed at any instant and resumed equals one that was never stopped.

The tests kill at some of the instants; `python -m tests.test_kills` at every file operation of a
new and of a resumed run, twice in a row, and at a hundred random instants (about ten minutes).
"""

import argparse
import copy
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from tqdm.auto import tqdm
from tqdm.std import TqdmDefaultWriteLock

from src.utils.checkpoint import WEIGHTS, read_tensors
from src.utils.files import read_jsonl
from tests.demo import experiment, tiny_corpus
from tests.kill_points import (
    copy_at,
    count_operations,
    in_fork,
    kill,
    kill_after,
    kill_at,
    kill_when,
)
from train import train

ROOT = Path(__file__).parents[1]
OPTIONS = (
    "model.hidden_size=8",
    "model.kernel_size=3",
    "features.n_mels=8",
    "dataloader.max_items=2",
    *(f"+datasets.{name}.limit=4" for name in ("train", "val", "test")),
    "scheduler=cosine",
    "trainer.epochs=1",
    "trainer.steps_per_epoch=2",
    "trainer.save_every_steps=1",
    "trainer.log_every_steps=1",
    "trainer.show_every_epochs=0",
    "report.audio=none",  # pictures take most of the time of such a run; one test has them
    "trainer.save_in_background=false",  # file operations are counted, in one thread
    "threads=1",
)
MAKE = """#!/bin/sh
echo "$@"
"""


class Bench:
    """Starts runs in forked processes.

    Args:
        folder: for everything.
        corpus: to train on.
        options: overrides.
    """

    def __init__(self, folder: Path, corpus: Path, *options: str):
        self.folder, self.count = folder, 0
        self.config = experiment("asr_baseline", corpus, folder / "any", *OPTIONS, *options)
        self.venv = folder / "venv"
        (self.venv / "bin").mkdir(parents=True)
        (self.venv / "runs").touch()
        (self.venv / "bin" / "python").write_text(MAKE)
        (self.venv / "bin" / "python").chmod(0o755)
        self.whole = self.new()
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            self.start_here(self.whole)()  # imports everything in this process, too
        self.wanted = result(self.whole)

    def new(self, source: Path | None = None) -> Path:
        """A folder for a run, perhaps a copy of another."""
        self.count += 1
        folder = self.folder / f"run{self.count}"
        if source is not None:
            shutil.copytree(source, folder)
        return folder

    def start(self, run: Path):
        """What `make train` does with a run's folder, to be called in a forked process."""
        return self.start_here(run, fast=True)

    def start_here(self, run: Path, fast: bool = False):
        """The same, to be called in this process."""
        config = copy.deepcopy(self.config)
        if self.make_train(run) == f"train.py trainer.resume_from={run}":
            config.trainer.resume_from = str(run)
        else:
            config.run_dir = str(run)

        def call() -> None:
            os.chdir(ROOT)
            if fast:  # what SIGKILL doesn't concern
                os.fsync = lambda descriptor: None
                train.__globals__["Run"].save_config.__globals__["git"] = lambda *arguments: ""
            train(config)

        return call

    def make_train(self, run: Path) -> str:
        """The arguments that `make train` gives to Python."""
        command = ["make", "--no-print-directory", "train", f"RUN={run}"]
        command += [f"VENV={self.venv}", "PYTHON=python3"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def finish(self, run: Path, kills: str) -> list[str]:
        """Start a run that was killed again, and compare it with the one that never was.

        Returns:
            Nothing, or the kills and what differs.
        """
        try:
            count_operations(self.start(run), run)
            check(run, self.whole, self.wanted)
        except AssertionError as error:
            return [f"{kills}: {str(error).splitlines()[0]}"]
        except RuntimeError as error:
            return [f"{kills}: {str(error).strip().splitlines()[-1]}"]
        shutil.rmtree(run)
        return []


MEASURED = {  # differently each time
    "time",
    *(f"train/{name}" for name in ("steps_per_second", "audio_hours_per_second", "data_wait")),
    *("train/memory_mib", "train/mfu"),
}


def result(run: Path) -> dict:
    """What a finished run holds, but for what is measured of the machine."""
    rows = read_jsonl(run / "metrics.jsonl")
    return {
        "rows": [{key: row[key] for key in row if key not in MEASURED} for row in rows],
        "best": read_tensors(run / "best" / WEIGHTS),
        "last": read_tensors(run / "last" / WEIGHTS),
    }


def check(run: Path, whole: Path, wanted: dict) -> None:
    """Compare a finished run with the one that was never stopped; nothing else may be there."""
    found = result(run)
    for name in ("best", "last"):
        assert found[name].keys() == wanted[name].keys(), f"{name} has other weights"
        for key, value in wanted[name].items():
            assert torch.equal(found[name][key], value), f"{name}/{key} differs"
    assert found["rows"] == wanted["rows"], f"rows {found['rows']}"
    assert files(run) == files(whole), f"files {files(run) ^ files(whole)}"


def files(run: Path) -> set[str]:
    """Of a run, relative to its folder; names of temporary ones without the process's number."""
    return {re.sub(r"\.\d+@.+\.tmp\b", ".tmp", str(p.relative_to(run))) for p in run.rglob("*")}


# Kills -------------------------------------------------------------------------------------


def resume_from_each(bench: Bench, source: Path | None, step: int = 1) -> tuple[int, list[str]]:
    """Go on from what kills at file operations leave, and compare the end.

    Args:
        bench: starts runs.
        source: a run that is resumed; None: a new one.
        step: only every so many operations.

    Returns:
        How many kills, and which of them changed anything.
    """
    run, copies = bench.new(source), bench.new()
    numbers = range(step, sys.maxsize, step)
    count = copy_at(bench.start(run), run, numbers, copies)
    chosen = [n for n in range(1, count + 1) if n in numbers]
    faults = [bench.finish(copies / str(n), f"operation {n}") for n in chosen]
    return len(chosen), sum(faults, [])


def kill_twice(
    bench: Bench, source: Path | None, draw: random.Random, step: int = 1
) -> tuple[int, list[str]]:
    """Kill a start at file operations and the next one at random ones, and compare the end.

    Args:
        bench: starts runs.
        source: a run that is resumed; None: a new one.
        draw: the operation of the second kill.
        step: only every so many operations.

    Returns:
        How many pairs of kills, and which of them changed anything.
    """
    run = bench.new(source)
    count = count_operations(bench.start(run), run)
    chosen = range(step, count + 1, step)
    faults = []
    for n in chosen:
        run, again = bench.new(source), draw.randint(1, count)
        kill_at(bench.start(run), run, n)
        in_fork(bench.start(run), run, lambda count, again=again: count == again and kill())
        faults += bench.finish(run, f"operation {n}, then {again}")
    return len(chosen), faults


def interrupted(bench: Bench) -> Path:
    """A run that was killed between the two renames of its second checkpoint."""
    run = bench.new()

    def between_renames(n: int) -> bool:
        return (run / "last.old").exists() and not (run / "last").exists()

    kill_when(bench.start(run), run, between_renames)
    return run


def kill_at_random(bench: Bench, times: int, seed: int) -> tuple[int, list[str]]:
    """Kill a new run, and sometimes the resumed one after it, at random instants."""
    draw = random.Random(seed)
    run = bench.new()
    started = time.monotonic()
    count_operations(bench.start(run), run)
    seconds = time.monotonic() - started
    faults = []
    for _ in range(times):
        run, instants = bench.new(), [draw.uniform(0, seconds) for _ in range(draw.randint(1, 2))]
        for instant in instants:
            kill_after(bench.start(run), run, instant)
        faults += bench.finish(run, f"seconds {instants}")
    return times, faults


# Tests -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(corpus, tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("kills"), corpus)


def test_kills_of_a_new_run(bench):
    count, faults = resume_from_each(bench, None, 5)
    assert count > 20 and not faults, "\n".join(faults)


def test_copies_are_what_kills_leave(bench):
    run, copies, numbers = bench.new(), bench.new(), range(20, 100, 20)
    assert copy_at(bench.start(run), run, numbers, copies) > numbers[-1]
    for n in numbers:
        run = bench.new()
        kill_at(bench.start(run), run, n)
        assert files(run) == files(copies / str(n)) != set()
        for path in run.rglob(f"*/{WEIGHTS}"):
            assert path.read_bytes() == (copies / str(n) / path.relative_to(run)).read_bytes()


def test_forks_share_no_lock_of_bars(tmp_path):
    def check() -> None:
        assert not isinstance(tqdm.get_lock(), TqdmDefaultWriteLock)

    assert list(tqdm([1], file=io.StringIO())) == [1]  # makes a lock that forks share
    status, message = in_fork(check, tmp_path)
    assert status == 0, message


def test_kills_of_a_resumed_run(bench):
    count, faults = resume_from_each(bench, interrupted(bench), 5)
    assert count > 16 and not faults, "\n".join(faults)


def test_kills_twice(bench):
    _, faults = kill_twice(bench, None, random.Random(1), 17)
    assert not faults, "\n".join(faults)


def test_kills_without_checkpoints_in_the_epoch(corpus, tmp_path):
    bench = Bench(tmp_path, corpus, "trainer.save_every_steps=null", "report.audio=worst")
    _, faults = resume_from_each(bench, None, 13)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("workers", [0, 2])
def test_kills_at_random(corpus, tmp_path, workers):
    options = ("trainer.save_in_background=true", f"dataloader.num_workers={workers}")
    bench = Bench(tmp_path, corpus, *options)
    _, faults = kill_at_random(bench, 3, seed=2)
    assert not faults, "\n".join(faults)


# All of them -------------------------------------------------------------------------------


def report(name: str, outcome: tuple[int, list[str]]) -> None:
    """Print how many of some kills changed nothing, and the others."""
    count, faults = outcome
    print(f"{name}: {count - len(faults)} of {count} equal", *faults, sep="\n  ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill runs wherever it is possible.")
    parser.add_argument("--random", type=int, default=50, help="kills for each number of workers")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        corpus = tiny_corpus(Path(name) / "corpus")
        often = ("trainer.epochs=1",)
        seldom = ("trainer.epochs=2", "trainer.save_every_steps=null")
        for options in (often, seldom):
            bench = Bench(Path(tempfile.mkdtemp(dir=name)), corpus, *options)
            half, draw, label = interrupted(bench), random.Random(arguments.seed), " ".join(options)
            report(f"{label}, new", resume_from_each(bench, None))
            report(f"{label}, resumed", resume_from_each(bench, half))
            report(f"{label}, new, twice", kill_twice(bench, None, draw))
            report(f"{label}, resumed, twice", kill_twice(bench, half, draw))
        for workers in (0, 2):
            options = (f"dataloader.num_workers={workers}", "trainer.epochs=2")
            options += ("trainer.save_in_background=true",)
            bench = Bench(Path(tempfile.mkdtemp(dir=name)), corpus, *options)
            outcome = kill_at_random(bench, arguments.random, arguments.seed)
            report(f"random instants, {workers} workers", outcome)


if __name__ == "__main__":
    main()
