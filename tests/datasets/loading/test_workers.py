import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import islice

import numpy as np
import pytest

from src.datasets.loading import workers as workers_module
from src.datasets.loading.loaders import EvaluationLoader, LoaderOptions
from src.datasets.loading.train import TrainLoader
from src.utils.entry import run_command

OPTIONS = LoaderOptions(max_seconds=3, num_workers=2)


class Hangs:
    """The first items are there at once; reading others never ends."""

    durations = np.ones(12)

    def __len__(self):
        return 12

    def __getitem__(self, key):
        if key[1] < self.readable:
            return {"id": str(key[1]), "seed": 1}
        while True:
            time.sleep(60)

    def __init__(self, readable=12):
        self.readable = readable


class Dies(Hangs):
    """The worker that reads it is killed, as where the memory is full."""

    def __getitem__(self, key):
        os.kill(os.getpid(), signal.SIGKILL)


def alive(pids):
    alive_pids = []
    for pid in pids:
        try:
            os.kill(pid, 0)
            alive_pids.append(pid)
        except ProcessLookupError:
            pass
    return alive_pids


def workers_of(batches):
    return [worker.pid for worker in batches.batches._workers]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(workers_module, "GRACE", 0.3)


@pytest.fixture
def own_child():
    """A child process of the host program."""
    child = multiprocessing.Process(target=time.sleep, args=(60,))
    child.start()
    yield child
    assert child.is_alive()
    child.kill()
    child.join()


@pytest.mark.parametrize("kind", [TrainLoader, EvaluationLoader])
def test_close_ends_workers_and_no_other_child(own_child, kind):
    loader = kind(Hangs(), OPTIONS)
    batches = iter(loader)
    next(batches)
    pids = workers_of(batches if kind is EvaluationLoader else loader.batches)
    assert len(pids) == len(alive(pids)) == 2
    loader.close()
    assert not alive(pids)
    loader.close()


def test_close_ends_a_worker_that_hangs(own_child):
    loader = EvaluationLoader(Hangs(readable=3), OPTIONS)
    batches = iter(loader)
    pids = workers_of(batches)
    started = time.monotonic()
    loader.close()
    assert time.monotonic() - started < 4
    assert not alive(pids)


@pytest.mark.parametrize("readable", [0, 12])
def test_garbage_collection_ends_workers(own_child, readable):
    loader = TrainLoader(Hangs(readable), OPTIONS)
    loader.batches = loader.start()
    pids = workers_of(loader.batches)
    assert len(alive(pids)) == 2
    del loader
    gc.collect()
    assert not alive(pids)


def test_the_last_batch_ends_workers(own_child):
    batches = iter(EvaluationLoader(Hangs(), OPTIONS))
    pids = workers_of(batches)
    assert len(list(batches)) == 4
    assert not alive(pids)


def test_interruption_ends_workers(own_child, monkeypatch):
    loader = TrainLoader(Hangs(readable=0), OPTIONS)
    loader.batches = loader.start()
    pids = workers_of(loader.batches)

    def interrupt(batches):
        raise KeyboardInterrupt

    monkeypatch.setattr(loader, "take", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(loader)
    assert not alive(pids)


HOST = """
import tempfile
early = tempfile.TemporaryDirectory()  # whose finalizer is registered before those of torch
import multiprocessing, subprocess, sys, time
from tests.datasets.loading.test_workers import Hangs, OPTIONS, workers_of
from src.datasets.loading.loaders import EvaluationLoader
from src.datasets.loading.train import TrainLoader
from src.utils.entry import run_command

child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
own = multiprocessing.Process(target=time.sleep, args=(1,))
own.start()
good, hung = TrainLoader(Hangs(), OPTIONS), EvaluationLoader(Hangs(readable=0), OPTIONS)
next(good)
batches = iter(hung)
print(child.pid, *workers_of(good.batches), *workers_of(batches), flush=True)
{end}
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("sys.exit(3)", 3), ("raise ValueError('x')", 1), ("next(batches)", 130)],
)
def test_exit_ends_workers(end, code):
    host = subprocess.Popen(
        [sys.executable, "-c", HOST.format(end=end)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child, *pids = map(int, host.stdout.readline().split())
    assert len(pids) == 4
    if code == 130:  # Ctrl-C while a worker hangs
        time.sleep(0.5)
        host.send_signal(2)
    _, errors = host.communicate(timeout=30)
    assert host.returncode in (code, -2 if code == 130 else code), errors.decode()
    assert not alive(pids)
    assert alive([child])
    os.kill(child, 9)


def test_import_has_no_side_effects():
    code = """
import atexit, signal
calls = []
real = atexit.register
import multiprocessing, torch, torch.utils.data, numpy, tqdm, soundfile
import multiprocessing.util
before = [signal.getsignal(n) for n in (2, 15, signal.SIGCHLD)]
atexit.register = lambda *a, **k: (calls.append(a), real(*a, **k))[1]
children = multiprocessing.Process(target=__import__("time").sleep, args=(30,))
children.start()
import src.datasets.loading.train, src.datasets.loading.workers, src.datasets.base_dataset
assert not calls, calls
assert before == [signal.getsignal(n) for n in (2, 15, signal.SIGCHLD)]
assert children.is_alive()
children.kill()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_signals_to_the_group_leave_workers_alive():
    loader = TrainLoader(Hangs(), OPTIONS)
    loader.batches = loader.start()
    pids = workers_of(loader.batches)
    for _ in range(2):  # in their first milliseconds, and while they read
        for pid in pids:
            os.kill(pid, 2)
            os.kill(pid, 15)
        assert len(list(islice(loader, 3))) == 3
    assert len(alive(pids)) == 2
    loader.close()


def test_a_worker_that_is_killed_ends_the_program_with_one_sentence(capsys):
    loader = TrainLoader(Dies(), OPTIONS)
    with pytest.raises(SystemExit, match="1"):
        run_command(lambda: next(loader))
    printed = capsys.readouterr().err
    assert printed.startswith("error: DataLoader worker (pid") and printed.count("\n") == 1
    assert printed.endswith("a smaller dataloader.num_workers needs less.\n")
