import errno
import os
import pickle
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from torch import nn

from scripts.compare import is_outdated
from src.utils import checkpoint
from src.utils.checkpoint import (
    CHECKSUMS,
    SELF_TEST,
    STATE,
    WEIGHTS,
    find_checkpoint,
    load_weights,
    newest_weights,
    read_self_test,
    read_state,
    read_tensors,
    read_weights,
    remove_leftovers,
    save_checkpoint,
)
from src.utils.files import DAY, HOST
from src.utils.shards import shard_name
from tests.kill_points import count_operations, kill_at

READERS = {WEIGHTS: read_weights, SELF_TEST: read_self_test, STATE: read_state}


def save(folder, value=1.0, size=2):
    weights = {"weight": torch.full((size, size), value), "bias": torch.full((size,), value)}
    state = {"step": int(value), "optimizer": {0: torch.zeros(10_000 * size)}}
    save_checkpoint(folder, weights, state, {"audio": torch.full((3,), value)})


def saved_value(folder):
    """The value that all files of the checkpoint hold."""
    value = read_state(folder)["step"]
    assert all(tensor.eq(value).all() for tensor in read_weights(folder).values())
    assert read_self_test(folder)["audio"].eq(value).all()
    return value


def test_what_is_saved_comes_back(tmp_path):
    save(tmp_path / "last", 3)
    model = nn.Linear(2, 2)
    load_weights(model, read_weights(tmp_path / "last"), tmp_path)
    assert model.weight.eq(3).all() and model.bias.eq(3).all()
    assert saved_value(tmp_path / "last") == 3
    save(tmp_path / "last", 4)
    assert saved_value(tmp_path / "last") == 4
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_shared_tensors_become_separate(tmp_path):
    shared = torch.ones(3)
    save_checkpoint(tmp_path / "last", {"a": shared, "b": shared[1:]}, {}, {})
    weights = read_weights(tmp_path / "last")
    assert weights["a"].tolist() == [1, 1, 1] and weights["b"].tolist() == [1, 1]


# Kills -------------------------------------------------------------------------------------


def copy_of(folder, name):
    return Path(shutil.copytree(folder, folder.parent / name))


def test_a_kill_at_every_operation_leaves_a_whole_checkpoint(tmp_path):
    """And so does a second kill, at every operation of a save after the first."""
    save(tmp_path / "run" / "last", 1)
    seen = set()
    for n in range(1, 1 + operations_of_saving(copy_of(tmp_path / "run", "counted"), 2)):
        run = copy_of(tmp_path / "run", f"kill_{n}")
        kill_at(lambda run=run: save(run / "last", 2), run, n)
        value = saved_value(run / "last")
        left = (value, *sorted(path.name for path in run.iterdir()))
        if left not in seen:  # the others differ only in how much of `last.new` was written
            seen.add(left)
            kill_again(run, value)
    assert {value for value, *_ in seen} == {1, 2}
    assert (1, "last.new", "last.old") in seen


def kill_again(run, value):
    """Kill a save at every operation, from the same start, then clean up and save in peace."""
    for n in range(1, 1 + operations_of_saving(copy_of(run, f"{run.name}_counted"), 3)):
        again = copy_of(run, f"{run.name}_{n}")
        kill_at(lambda again=again: save(again / "last", 3), again, n)
        left = saved_value(again / "last")
        assert left in (value, 3)
        remove_leftovers(again)
        assert [path.name for path in again.iterdir()] == ["last"]
        assert saved_value(again / "last") == left
        save(again / "last", 4)
        assert saved_value(again / "last") == 4


def operations_of_saving(run, value):
    return count_operations(lambda: save(run / "last", value), run)


def test_a_kill_during_the_first_save_leaves_none_or_a_whole_one(tmp_path):
    for n in range(1, 1 + operations_of_saving(tmp_path / "counted", 2)):
        run = tmp_path / str(n)
        kill_at(lambda run=run: save(run / "last", 2), run, n)
        if (run / "last").exists():
            assert saved_value(run / "last") == 2
        else:
            with pytest.raises(FileNotFoundError, match=f"{n}/last: no checkpoint here"):
                find_checkpoint(run / "last")
            remove_leftovers(run)
            assert not run.exists() or not list(run.iterdir())
        save(run / "last", 3)
        assert saved_value(run / "last") == 3


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    save(tmp_path / "last", 1)
    save(tmp_path / "last.old", 2)
    save(tmp_path / "best.old", 3)
    save(tmp_path / "best.new", 4)
    (tmp_path / "last.new").mkdir()
    for name in ("notes", "notes.old", "notes.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").touch()
    (tmp_path / "file.old").touch()
    gone = subprocess.Popen(["true"])
    gone.wait()
    running = f".config.yaml.{os.getppid()}@{HOST}.tmp"
    elsewhere, old = (f".config.yaml.{gone.pid}@{host}.tmp" for host in ("node7", "node8"))
    for name in (gone.pid, os.getpid()):
        (tmp_path / f".config.yaml.{name}@{HOST}.tmp").touch()
    for name in (running, elsewhere, old, ".mine.tmp"):
        (tmp_path / name).touch()
    long_ago = time.time() - 2 * DAY
    os.utime(tmp_path / old, (long_ago, long_ago))
    remove_leftovers(tmp_path)
    kept = {"notes", "notes.old", "notes.new", "file.old", ".mine.tmp"}
    kept |= {"last", "best", running, elsewhere}
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert (saved_value(tmp_path / "last"), saved_value(tmp_path / "best")) == (1, 3)


# Damage ------------------------------------------------------------------------------------


def read_everything(folder):
    for read in READERS.values():
        read(folder)


def test_every_flipped_bit_is_refused(tmp_path):
    save(tmp_path / "last")
    files = {path: path.read_bytes() for path in sorted((tmp_path / "last").iterdir())}
    assert len(files) == 4
    random_bits = random.Random(1)
    read_everything(tmp_path / "last")
    for i in range(200):
        path = list(files)[i % 4]
        damaged = bytearray(files[path])
        position = random_bits.randrange(8 * len(damaged))
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"^{path}: damaged, .*\.$"):
            read_everything(tmp_path / "last")
        path.write_bytes(files[path])
    read_everything(tmp_path / "last")


@pytest.mark.parametrize("name", [WEIGHTS, SELF_TEST, STATE, CHECKSUMS])
@pytest.mark.parametrize("content", [b"", b"half", b"\0" * 100, b"[" * 100_000])
def test_damaged_files_are_named(tmp_path, name, content):
    save(tmp_path / "last")
    (tmp_path / "last" / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"last/{name}: damaged"):
        READERS.get(name, read_weights)(tmp_path / "last")
    with pytest.raises(ValueError, match=f"{name}: damaged"):
        read_tensors(tmp_path / "last" / (WEIGHTS if name == CHECKSUMS else name))


def test_files_of_two_checkpoints_do_not_mix(tmp_path):
    save(tmp_path / "a", 1)
    save(tmp_path / "b", 2)
    shutil.copy(tmp_path / "a" / STATE, tmp_path / "b" / STATE)
    with pytest.raises(ValueError, match="state.pt: damaged"):
        read_state(tmp_path / "b")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="last: no checkpoint here .model.safetensors is"):
        read_weights(tmp_path / "last")
    save(tmp_path / "last")
    (tmp_path / "last" / STATE).unlink()
    assert read_weights(tmp_path / "last").keys() == {"weight", "bias"}
    with pytest.raises(FileNotFoundError, match="last/state.pt: no such file"):
        read_state(tmp_path / "last")
    (tmp_path / "last" / CHECKSUMS).unlink()
    with pytest.raises(FileNotFoundError, match="no checkpoint here .checksums.json is missing"):
        read_weights(tmp_path / "last")


def test_single_files_of_tensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors.torch.save({"a": torch.ones(2)}))
    assert read_tensors(path)["a"].tolist() == [1, 1]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="weights.safetensors: truncated"):
        read_tensors(path)
    with pytest.raises(FileNotFoundError, match="none.safetensors: no such file"):
        read_tensors(tmp_path / "none.safetensors")


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_state_that_holds_code_runs_nothing(tmp_path):
    """Checksums are no protection here: who replaces the state can replace them as well."""
    save_checkpoint(tmp_path / "last", {}, {"step": Hostile(tmp_path / "hostile")}, {})
    with pytest.raises(ValueError, match="state.pt: not a training state"):
        read_state(tmp_path / "last")
    data = pickle.dumps(Hostile(tmp_path / "hostile"), protocol=2)
    (tmp_path / "last" / STATE).write_bytes(data)
    digest = checkpoint.write_durably(tmp_path / "last" / STATE, data)
    content = checkpoint.format_checksums({STATE: digest})
    (tmp_path / "last" / CHECKSUMS).write_bytes(content)
    with pytest.raises(ValueError, match="state.pt: not a training state"):
        read_state(tmp_path / "last")
    assert not (tmp_path / "hostile").exists()


def test_another_model_is_refused_whole(tmp_path):
    save(tmp_path / "best")
    for other, words in (
        (nn.Linear(3, 2), r"weight has shape \[2, 2\], the model's is \[2, 3\]"),
        (nn.Linear(2, 2, bias=False), "bias is not in the model"),
        (nn.Bilinear(2, 2, 2), "has shape"),
        (nn.Sequential(nn.Linear(2, 2)), "0.weight is missing"),
    ):
        before = {k: v.clone() for k, v in other.state_dict().items()}
        with pytest.raises(ValueError, match=words):
            load_weights(other, read_weights(tmp_path / "best"), tmp_path / "best")
        assert all(torch.equal(before[k], v) for k, v in other.state_dict().items())


# A full disk -------------------------------------------------------------------------------


def assert_refused_whole(run, name, reason, size=2):
    """Saving fails with one sentence, and the checkpoint before stays as it was."""
    sentence = rf"^{run}/last.new/{name}: could not be written: {reason} \([0-9.]+ \w+ free on "
    with pytest.raises(OSError, match=sentence + r"the disk /.*, [0-9.]+ \w+ needed\)\.$"):
        save(run / "last", 2, size)
    assert [path.name for path in run.iterdir()] == ["last"]
    assert saved_value(run / "last") == 1


@pytest.mark.parametrize("name", [WEIGHTS, SELF_TEST, STATE, CHECKSUMS])
def test_a_full_disk_at_each_file(tmp_path, monkeypatch, name):
    save(tmp_path / "last", 1)
    sync, opened = os.fsync, []

    def fsync(descriptor):
        opened.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        if opened[-1] == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert_refused_whole(tmp_path, name, "No space left on device")


@pytest.mark.parametrize(("name", "size"), [(WEIGHTS, 300), (STATE, 10)])
def test_a_limit_on_the_size_of_files(tmp_path, name, size):
    """As a full disk, but met while the data is written."""
    save(tmp_path / "last", 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        assert_refused_whole(tmp_path, name, "File too large", size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("name", "size"), [(WEIGHTS, 300), (STATE, 10)])
def test_a_disk_that_is_really_full(tmp_path, name, size):
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("not allowed to mount a file system")
    try:
        save(tmp_path / "last", 1)
        assert_refused_whole(tmp_path, name, "No space left on device", size)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_only_utils_is_needed():
    code = "import src.utils.checkpoint, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = {name for name in done.stdout.split() if name.startswith("src.")}
    files = {f"src.utils.{name}" for name in ("checkpoint", "durable", "files", "shards")}
    assert own == {"src.utils"} | files


def test_newest_weights_of_whole_and_sharded_checkpoints(tmp_path):
    for number, name in enumerate((shard_name(1), shard_name(0), STATE)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (number, number))
    table = tmp_path / "test.tsv"
    table.touch()
    os.utime(table, (0.5, 0.5))
    run = SimpleNamespace(checkpoint=lambda name: tmp_path)
    assert newest_weights(tmp_path) == tmp_path / shard_name(0)
    assert is_outdated(table, run)
    os.utime(table, (3, 3))
    assert not is_outdated(table, run)
    assert newest_weights(table) == table
