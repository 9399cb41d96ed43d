"""A run goes on with any number of processes, and sees each utterance of an epoch once.

The test kills and resumes once with as many processes and once with others; `python -m
tests.test_elastic` does so at twenty random instants, in half of them with another number, and
reads the audio from shards.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from src.datasets.manifest import Manifest
from src.datasets.shards import MANIFEST, ShardOptions, write_shards
from src.utils.checkpoint import WEIGHTS, read_tensors
from src.utils.files import read_jsonl
from tests.demo import SMALL, tiny_corpus
from tests.programs import run_in_processes, started_group

OPTIONS = (
    *SMALL,
    "model.dropout=0.2",
    "dataloader.max_items=2",
    "+datasets.val.limit=4",
    "trainer.monitor=null",
    "trainer.epochs=2",
    "trainer.save_every_steps=2",
    "trainer.show_every_epochs=0",
    "trainer.test_on=[]",
    "trainer.log_ids=true",
    "writer=nothing",
    "device=cpu",
    "threads=1",
)
TOGETHER = 5.0  # seconds in which the other processes may end by themselves


class Bench:
    """Starts runs with some number of processes.

    Args:
        folder: for everything.
        options: overrides, among them the datasets.
    """

    def __init__(self, folder: Path, *options: str):
        self.folder, self.new = folder, ["train.py", *options, *OPTIONS]
        self.count = 0

    def arguments(self, run: Path) -> list[str]:
        """Of the program that starts a run, or goes on with it."""
        if any((run / name).exists() for name in ("last", "last.old")):
            return ["train.py", f"trainer.resume_from={run}"]
        return [*self.new, f"run_dir={run}"]

    def finish(self, run: Path, processes: int) -> Path:
        """The folder of a run that ends with a number of processes."""
        run_in_processes(processes, *self.arguments(run))
        return run

    def kill(self, run: Path, processes: int, ready, victim: str = "all") -> None:
        """Kill a run as soon as `ready()`, unless it has ended before.

        Args:
            run: its folder.
            processes: of the run.
            ready: asked again and again.
            victim: `all` processes, or `one` or a `worker` of one, whose end the others notice.
        """
        self.count += 1
        output = self.folder / f"output{self.count}"
        with started_group(processes, output, *self.arguments(run)) as group:
            while not ready() and any(process.is_alive() for process in group):
                time.sleep(0.02)
            if victim == "all":
                return
            process = group[-1]
            chosen = [process.pid] if victim == "one" else children(process.pid)
            for pid in chosen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            limit = time.monotonic() + TOGETHER
            while time.monotonic() < limit and any(one.is_alive() for one in group):
                time.sleep(0.05)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    with contextlib.suppress(FileNotFoundError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in text.split()]
    return []


def seen(run: Path) -> dict[int, Counter]:
    """How often each utterance was seen, by epoch."""
    epochs: dict[int, Counter] = {}
    rows = read_jsonl(run / "ids.jsonl")
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        batches = [batch for process in row["ids"] for batch in process]
        epochs.setdefault(row["epoch"], Counter()).update(name for one in batches for name in one)
    return epochs


def check_once(run: Path, whole: Path) -> None:
    """Each utterance of each epoch was seen once, as in a run that was never stopped."""
    epochs = seen(run)
    assert epochs == seen(whole)
    assert len(epochs) == 2 and all(set(own.values()) == {1} for own in epochs.values())


def check_equal(run: Path, whole: Path) -> None:
    """Both runs have the same weights, bit for bit, after the same utterances in each process."""
    assert read_jsonl(run / "ids.jsonl") == read_jsonl(whole / "ids.jsonl")
    own, wanted = (read_tensors(folder / "last" / WEIGHTS) for folder in (run, whole))
    assert own.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(own[name], value), f"{name} differs"


def rows(run: Path) -> int:
    """Steps whose ids are written."""
    path = run / "ids.jsonl"
    return len(read_jsonl(path, tolerant=True)) if path.exists() else 0


def test_killed_runs_go_on_with_any_number_of_processes(corpus, tmp_path):
    bench = Bench(tmp_path, f"datasets.train.folder={corpus}", "dataloader.num_workers=0")
    whole, run = bench.finish(tmp_path / "whole", 4), tmp_path / "run"
    steps = rows(whole)
    bench.kill(run, 4, lambda: rows(run) >= steps // 2)
    other = Path(shutil.copytree(run, tmp_path / "other"))
    bench.finish(run, 4)  # with more than two, the order of sums could differ
    check_once(run, whole)
    check_equal(run, whole)
    bench.kill(other, 2, lambda: rows(other) >= steps - 2)
    bench.finish(other, 1)
    check_once(other, whole)


# Twenty random kills -----------------------------------------------------------------------


def sharded(corpus: Path) -> list[str]:
    """Overrides for a corpus whose training part lies in shards."""
    shards = corpus / "shards"
    write_shards(Manifest(corpus / "train.jsonl"), shards, ShardOptions(megabytes=0.2))
    assert len(list(shards.glob("*.tar"))) > 3
    manifests = {name: corpus / f"{name}.jsonl" for name in ("val", "test")}
    manifests["train"] = shards / MANIFEST
    return ["datasets=manifest", *(f"datasets.{k}.manifest={v}" for k, v in manifests.items())]


def random_instant(draw: random.Random, run: Path, whole: tuple[Path, float]):
    """A function that says when to kill: after some seconds, or after some more steps.

    Args:
        draw: random numbers.
        run: that is killed.
        whole: a run of as many processes that was never stopped, and its seconds.
    """
    total = rows(whole[0])
    if draw.random() < 0.5:
        steps = min(total, rows(run) + draw.randint(1, total))
        return lambda: rows(run) >= steps
    instant = time.monotonic() + draw.uniform(0, whole[1])
    return lambda: time.monotonic() > instant


def kill_at_random(bench: Bench, draw: random.Random, changed: bool, whole: dict) -> str:
    """Kill a run once or twice at random instants, go on with it and check the end.

    Args:
        bench: starts runs.
        draw: numbers of processes, instants and victims.
        changed: whether the number of processes changes.
        whole: number of processes -> run that was never stopped, and its seconds.

    Returns:
        What was done.
    """
    run, processes, done = bench.folder / "run", draw.choice([1, 2, 4]), []
    first = processes
    for _ in range(draw.randint(1, 2)):
        victim = draw.choice(["all", "one", "worker"])
        bench.kill(run, processes, random_instant(draw, run, whole[processes]), victim)
        done.append(f"{processes} processes, {victim} killed after {rows(run)} steps")
        if changed:
            processes = draw.choice([n for n in (1, 2, 4) if n != processes])
    bench.finish(run, processes)
    check_once(run, whole[1][0])
    if not changed:
        check_equal(run, whole[first][0])
    shutil.rmtree(run)
    return f"{', '.join(done)}, ended by {processes}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill runs of 1, 2 and 4 processes.")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        corpus = tiny_corpus(Path(name) / "corpus")
        bench = Bench(Path(name), *sharded(corpus), "dataloader.num_workers=1")
        whole = {}
        for processes in (1, 2, 4):
            started = time.monotonic()
            run = bench.finish(Path(name) / f"whole{processes}", processes)
            whole[processes] = (run, time.monotonic() - started)
        for i in range(arguments.times):
            changed = i % 2 == 1
            what = kill_at_random(bench, draw, changed, whole)
            print("each utterance once" if changed else "equal", what, sep=": ", flush=True)


if __name__ == "__main__":
    main()
