"""A disk that is full and files that are damaged: one sentence, and no good file is lost."""

import os
import random
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from src.run import Run, load_run
from src.utils.entry import run_command
from src.utils.files import mount_point, read_jsonl
from tests.demo import experiment
from tests.test_kills import OPTIONS, check, result
from train import train

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """A run that was never stopped, and what it holds."""
    folder = tmp_path_factory.mktemp("damage") / "whole"
    os.chdir(ROOT)
    train(experiment("asr_baseline", corpus, folder, *OPTIONS))
    return folder, result(folder)


def error_of(command, capsys):
    """The sentence with which a command fails."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        run_command(command)
    printed = capsys.readouterr().err
    assert exit.value.code == 1 and "Traceback" not in printed
    sentence = printed.replace("\r", "\n").strip().split("\n")[-1]
    assert sentence.startswith("error: ") and printed.count("error: ") == 1
    return sentence


# A full disk -------------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch):
    """In the block, from the n-th call of a method of Run on, no file grows beyond some bytes."""
    monkeypatch.setattr("src.run.git", lambda *arguments: "")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextmanager
    def block(method, n, size):
        real, calls = getattr(Run, method), []

        def limited(*arguments):
            calls.append(method)
            if len(calls) == n:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Run, method, limited)
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return block


@pytest.mark.parametrize(
    ("method", "n", "size", "file"),
    [
        ("save_config", 1, 10, "text_encoder/text_encoder.json"),
        ("save_config", 1, 1000, "config.yaml"),
        ("log_metrics", 1, 50, "metrics.jsonl"),
        ("log_metrics", 2, 250, "metrics.jsonl"),
        ("save", 1, 50, "last.new/model.safetensors"),
        ("save", 2, 50, "last.new/model.safetensors"),
        ("save", 2, 20_000, "last.new/self_test.safetensors"),
        ("save", 3, 50, "best.new/model.safetensors"),
    ],
)
def test_a_full_disk(corpus, whole, tmp_path, capsys, full_disk, method, n, size, file):
    folder = tmp_path / "run"
    config = experiment("asr_baseline", corpus, folder, *OPTIONS)
    with full_disk(method, n, size):
        sentence = error_of(lambda: train(config), capsys)
    assert f"{folder / file}: could not be written: " in sentence
    assert f"free on the disk {mount_point(folder)}" in sentence
    assert not list(folder.rglob("*.new")) and not list(folder.rglob(".*.tmp"))
    again = [f"trainer.resume_from={folder}"] if (folder / "last").exists() else []
    assert bool(again) == ((method, n) in {("log_metrics", 2), ("save", 2), ("save", 3)})
    train(experiment("asr_baseline", corpus, folder, *OPTIONS, *again))
    check(folder, *whole)


def test_a_full_disk_for_the_log(corpus, whole, tmp_path, capsys, full_disk):
    """The run goes on, and its console shows what the file lacks."""
    folder = tmp_path / "run"
    config = experiment("asr_baseline", corpus, folder, *OPTIONS)
    config.run_dir = str(folder)
    Run.create_at(folder)
    (folder / "log.txt").write_text("x" * 1_000_000)
    with full_disk("save_config", 1, 500_000):
        train(config)
    printed = capsys.readouterr().err
    assert "INFO step 2, val" in printed and "Traceback" not in printed
    assert (folder / "log.txt").stat().st_size == 1_000_000
    check(folder, *whole)


# Flipped bits ------------------------------------------------------------------------------


def flip(path, draw):
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    position = draw.randrange(8 * len(data))
    data[position // 8] ^= 1 << position % 8
    path.write_bytes(data)


@pytest.mark.parametrize(
    "file", ["state.pt", "model.safetensors", "self_test.safetensors", "checksums.json"]
)
def test_a_flipped_bit(corpus, whole, tmp_path, capsys, file):
    draw = random.Random(file)
    config = experiment("asr_baseline", corpus, tmp_path, *OPTIONS, "trainer.epochs=2")
    for i in range(3):
        copy = shutil.copytree(whole[0], tmp_path / str(i))
        flip(copy / "last" / file, draw)
        config.trainer.resume_from = str(copy)
        before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
        sentence = error_of(lambda: train(config, ["trainer.epochs=2"]), capsys)
        assert f"{copy / 'last' / file}: damaged, " in sentence
        before.pop(copy / "log.txt")
        assert all(path.read_bytes() == data for path, data in before.items())
        if file != "state.pt":  # which is only needed to resume
            sentence = error_of(lambda copy=copy: load_run(copy, "last"), capsys)
            assert f"{copy / 'last' / file}: damaged, " in sentence


# Garbage -----------------------------------------------------------------------------------


def resumed(corpus, folder):
    config = experiment("asr_baseline", corpus, folder, *OPTIONS)
    config.trainer.resume_from = str(folder)
    return lambda: train(config, ["trainer.epochs=2"])


GARBAGE = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "all but the end": lambda data: data[:-5],
    "bytes": lambda data: bytes(range(256)) * 10,
    "zeros": lambda data: bytes(len(data)),
    "a list": lambda data: b"[1, 2]\n",
    "an object": lambda data: b'{"a": 1}\n',
    "deep": lambda data: b"[" * 100_000,
}


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("file", ["config.yaml", "text_encoder/text_encoder.json"])
def test_garbage_in_a_resumed_run(corpus, whole, tmp_path, capsys, file, kind):
    copy = shutil.copytree(whole[0], tmp_path / "copy")
    (copy / file).write_bytes(GARBAGE[kind]((copy / file).read_bytes()))
    sentence = error_of(resumed(corpus, copy), capsys)
    assert str(copy / file) in sentence
    check(copy, *whole)


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_among_the_metrics_of_a_resumed_run(corpus, whole, tmp_path, kind):
    copy = shutil.copytree(whole[0], tmp_path / "copy")
    metrics = copy / "metrics.jsonl"
    metrics.write_bytes(GARBAGE[kind](metrics.read_bytes()))
    resumed(corpus, copy)()
    rows = read_jsonl(metrics, tolerant=True)
    assert [row["step"] for row in rows if "train/loss" in row][-2:] == [3, 4]
    assert "test/WER" in rows[-1]
