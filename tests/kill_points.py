"""Kill a process at a chosen file operation, to see what it leaves behind."""

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PATHS = {  # audit event -> positions of its paths and of the folder descriptors beside them
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.remove": ((0, 1),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.utime": ((0, 3),),
    "shutil.rmtree": ((0, 1),),
}


def count_operations(function: Callable[[], object], folder: Path) -> int:
    """Call `function` in a forked process and count its file operations below `folder`.

    Counted are opening for writing, renaming, removing, linking, truncating, and making and
    removing folders, as Python's audit events report them, in all threads of that process but
    not in the processes that it starts.

    Raises:
        RuntimeError: `function` raised an error; holds its traceback.
    """
    return calls_before(function, folder, lambda n: None)


def calls_before(
    function: Callable[[], object], folder: Path, before: Callable[[int], object]
) -> int:
    """As `count_operations`; `before` is called in that process before each, with its number."""
    status, message = in_fork(function, folder, before)
    if status != 0:
        raise RuntimeError(f"ended with status {status}:\n{message}")
    return int(message)


def copy_at(function: Callable[[], object], folder: Path, numbers: range, copies: Path) -> int:
    """Call `function` in a forked process, and copy `folder` just before some of its operations.

    The copies are what `kill_at` would leave, as long as the process has no other threads and
    starts no processes: data in Python's buffers is not in them.

    Args:
        function: what the process does.
        folder: only operations below it are counted.
        numbers: of the operations, from 1.
        copies: folder for the copies, whose names are the numbers; there is none of a folder
            that doesn't exist yet.

    Returns:
        The number of operations.

    Raises:
        RuntimeError: `function` raised an error; holds its traceback.
    """

    def copy(n: int) -> None:
        if n in numbers and folder.exists():
            shutil.copytree(folder, copies / str(n))

    return calls_before(function, folder, copy)


def kill_at(function: Callable[[], object], folder: Path, n: int) -> None:
    """Call `function` in a forked process that is killed just before its n-th file operation.

    The process and those that it started end by SIGKILL: no `finally` runs, and data in Python's
    buffers is lost.

    Args:
        function: what the process does.
        folder: only operations below it are counted.
        n: 1 to `count_operations(function, folder)`.

    Raises:
        RuntimeError: the process ended before.
    """
    kill_when(function, folder, lambda count: count == n)


def kill_when(
    function: Callable[[], object], folder: Path, condition: Callable[[int], bool]
) -> None:
    """As `kill_at`, at the first operation for whose number `condition` is true.

    Args:
        function: what the process does.
        folder: only operations below it are counted.
        condition: called in that process before each operation.

    Raises:
        RuntimeError: the process ended before.
    """
    status, message = in_fork(function, folder, lambda n: condition(n) and kill())
    if status != -signal.SIGKILL:
        raise RuntimeError(f"ended with status {status}, not by the kill:\n{message}")


def kill() -> None:
    """End this process by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # the signal ends the process while this thread waits


def kill_after(function: Callable[[], object], folder: Path, seconds: float) -> None:
    """Call `function` in a forked process that is killed after some time, unless it has ended.

    Raises:
        RuntimeError: `function` raised an error; holds its traceback.
    """
    status, message = in_fork(function, folder, seconds=seconds)
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"ended with status {status}:\n{message}")


def in_fork(
    function: Callable[[], object],
    folder: Path,
    before: Callable[[int], object] = lambda n: None,
    seconds: float | None = None,
) -> tuple[int, str]:
    """Run `function` in a forked process.

    Args:
        function: what the process does.
        folder: whose file operations are counted.
        before: called in the forked process before each operation, with its number.
        seconds: after which it is killed; None: never.

    Returns:
        Its exit status (negative: the signal), and the number of operations or a traceback.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        run_and_exit(function, folder.resolve(), before, writing)
    os.close(writing)
    if seconds is not None:
        ended, _, _ = select.select([reading], [], [], seconds)  # readable when it ends
        if not ended:
            os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # the processes that it started, such as data workers
    with open(reading) as pipe:  # noqa: PTH123, a descriptor
        message = pipe.read()
    return os.waitstatus_to_exitcode(status), message


def run_and_exit(
    function: Callable[[], object], folder: Path, before: Callable[[int], object], report: int
) -> None:
    """In the forked process: call `function`, report the result and exit without clean-up."""
    status = 1
    try:
        os.setsid()  # a group of its own, which ends with it
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)
        counter = Counter(folder, before)
        # A lock that is shared with the next forks would stay locked if this process were killed.
        # It is an attribute of the class whose bars were shown first: tqdm.auto's, as in src.
        tqdm.set_lock(threading.RLock())
        sys.addaudithook(counter)
        try:
            function()
            message, status = str(counter.count), 0
        except BaseException:
            message = traceback.format_exc()
        counter.folder = None
        os.write(report, message.encode())
    finally:
        os._exit(status)


class Counter:
    """An audit hook that counts the file operations of this process.

    Args:
        folder: only operations below it count.
        before: called before each with its number, from 1.
    """

    def __init__(self, folder: Path, before: Callable[[int], object]):
        self.folder: Path | None = folder
        self.before = before
        self.count = 0
        self.pid = os.getpid()
        self.lock = threading.RLock()

    def __call__(self, event: str, arguments: tuple) -> None:
        if event != "open" and event not in PATHS:
            return
        if self.folder is None or os.getpid() != self.pid or not self.concerns(event, arguments):
            return
        with self.lock:
            self.count += 1
            self.before(self.count)

    def concerns(self, event: str, arguments: tuple) -> bool:
        """Whether an event changes something below the folder."""
        if event == "open":
            path, _, flags = arguments
            return bool((flags or 0) & WRITING) and self.is_below(path, None)
        return any(
            self.is_below(arguments[i], None if j is None else arguments[j])
            for i, j in PATHS[event]
        )

    def is_below(self, path: object, descriptor: int | None) -> bool:
        """Whether a path is below the folder, or is the folder itself."""
        if not isinstance(path, str | bytes | os.PathLike):
            return False  # an open file
        text = os.fsdecode(path)
        if descriptor is not None and descriptor >= 0:
            text = f"{Path(f'/proc/self/fd/{descriptor}').readlink()}/{text}"
        return Path(os.path.normpath(Path.cwd() / text)).is_relative_to(self.folder)
