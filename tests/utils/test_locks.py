import os
import subprocess
import sys

import pytest

from src.utils.locks import FileLock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks on Windows")

HOLD = """
import os, sys, time
from pathlib import Path
from src.utils.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire()
child = os.fork()  # as data workers are; it outlives this process
if not child:
    os.close(1)
    time.sleep(20)
    os._exit(0)
print(child, flush=True)
sys.stdin.read()
"""


def test_lock_ends_with_its_process_and_not_with_its_children(tmp_path):
    path = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(
            BlockingIOError, match=rf"^{tmp_path}: process {holder.pid} on .* works in"
        ):
            FileLock(path).acquire()
        holder.kill()
        holder.wait()
        FileLock(path).acquire()
    finally:
        os.kill(child, 9)


def test_a_process_may_take_its_lock_again(tmp_path):
    lock = FileLock(tmp_path / ".lock")
    lock.acquire()
    lock.acquire()
    assert lock.path.read_text().startswith(f"process {os.getpid()} on ")


def test_file_of_a_stranger_and_full_disk(tmp_path, monkeypatch):
    path = tmp_path / ".lock"
    path.write_bytes(b"\xff\xfe")
    lock = FileLock(path)
    monkeypatch.setattr("os.getpid", no_space)
    lock.acquire()
    assert lock.file is not None


def no_space():
    raise OSError(28, "No space left on device")
