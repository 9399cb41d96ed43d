"""Files that are either whole or absent, files of JSON lines, and files mapped into memory."""

import codecs
import errno
import json
import logging
import mmap
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
HOST = socket.gethostname()  # several machines may write into a shared folder
TEMPORARY = re.compile(r"\.(.+)\.(\d+)(?:@(.+))?\.tmp")  # of a process on a machine
DAY = 86_400  # seconds


@contextmanager
def write_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` if the block succeeds and is removed if not.

    Args:
        path: the file to write; its folder is created if needed.

    Raises:
        IsADirectoryError: there is a folder of this name.
        OSError: the disk is full; names the file and the free space.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder, not a file to write.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with explain_disk_error(path):
            yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def create_beside(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder, which becomes `folder` if the block succeeds.

    Args:
        folder: to create; its parent is created if needed.

    Raises:
        FileExistsError: there is something already.
        OSError: the disk is full; names the folder and the free space.
    """
    if os.path.lexists(folder):
        raise FileExistsError(f"{folder}: exists already; name another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in left_behind(folder.parent, folder.name):
        shutil.rmtree(left, ignore_errors=True)
    temporary = temporary_path(folder)
    try:
        with explain_disk_error(folder):
            temporary.mkdir()
            yield temporary
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_path(path: Path) -> Path:
    """Where this process writes what will become a file or a folder."""
    return path.with_name(f".{path.name}.{os.getpid()}@{HOST}.tmp")


def remove_temporary_files(folder: Path) -> None:
    """Remove from a folder what processes that were killed in `write_beside` left there."""
    for path in left_behind(folder):
        if not path.is_dir():
            path.unlink(missing_ok=True)


def left_behind(folder: Path, name: str | None = None) -> list[Path]:
    """Temporary files and folders in a folder whose processes were killed.

    Of other machines, whose processes can't be seen, only those that haven't changed for a day.

    Args:
        folder: of them; may be absent.
        name: what they would have become; None: anything.
    """
    matches = {path: TEMPORARY.fullmatch(path.name) for path in folder.glob(".*.tmp")}
    return [
        path
        for path, match in matches.items()
        if match
        and name in (None, match[1])
        and (not is_running(int(match[2])) if match[3] == HOST else age(path) > DAY)
    ]


def age(path: Path) -> float:
    """Seconds since a file, or a folder or anything in it, was changed; 0 if it is gone."""
    try:
        return time.time() - max(one.stat().st_mtime for one in (path, *path.rglob("*")))
    except OSError:
        return 0.0


def is_running(pid: int) -> bool:
    """Whether another process has this number."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return pid != os.getpid()


@contextmanager
def explain_disk_error(path: Path, size: int | None = None) -> Iterator[None]:
    """Turn the error of a full or failing disk inside the block into a sentence.

    Args:
        path: the file or folder that is being written; its parent must exist.
        size: bytes that it takes, if known.

    Raises:
        OSError: the disk is full or fails, or a quota or limit on the size of files is reached;
            names the path, the disk, the free space and the size.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        disk, free = mount_point(path), readable(shutil.disk_usage(path.parent).free)
        needed = "" if size is None else f", {readable(size)} needed"
        reason = f"{error.strerror} ({free} free on the disk {disk}{needed})"
        raise OSError(f"{path}: could not be written: {reason}.") from None


def mount_point(path: Path) -> Path:
    """Where the file system of a file, which need not exist, is mounted."""
    path = path.absolute()
    while not os.path.ismount(path) and path != path.parent:
        path = path.parent
    return path


def readable(size: int) -> str:
    """A number of bytes for people: `450.0 MB`."""
    number, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{size} bytes" if unit == "bytes" else f"{number:.1f} {unit}"


def read_jsonl(path: Path, tolerant: bool = False) -> list[dict[str, Any]]:
    """Read the rows of a file of JSON lines.

    Args:
        path: the file, UTF-8, with or without a byte order mark; each line holds a JSON object.
        tolerant: leave out every bad line with a warning, instead of raising, and an unfinished
            last one without. For files such as metrics.jsonl, where each kill may leave a line
            that was cut short.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is a folder, or a line is not a JSON object; names the file and the line.
    """
    rows = []
    lines = read_bytes(path).removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(parse_row(line))
        except ValueError as error:
            if not tolerant:
                raise ValueError(f"{path}, line {number}: {error}.") from None
            if number < len(lines):  # the last one may still be being written
                logger.warning("%s, line %d is left out: %s.", path, number, error)
    return rows


def read_bytes(path: Path) -> bytes:
    """Read a file whole.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is a folder.
    """
    check_regular(path)
    return path.read_bytes()


def check_regular(path: Path) -> None:
    """Raise unless there is a regular file; opening a FIFO would wait forever.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: there is something else.
    """
    if path.is_dir():
        raise ValueError(f"{path}: a folder, not a file.")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if not path.is_file():
        raise ValueError(f"{path}: no regular file.")


def parse_row(line: bytes) -> dict[str, Any]:
    """Parse a line that holds a JSON object.

    Raises:
        ValueError: it holds anything else; a clause that says what is wrong.
    """
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg}, column {error.colno})") from None
    except ValueError:  # the only other error: int() refuses thousands of digits
        raise ValueError("a number with too many digits") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError(f"a JSON {type(row).__name__}, not an object like {{...}}")
    return row


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a file of JSON lines, on a line of its own even after one that was cut short.

    Raises:
        OSError: the disk is full; names the file and the free space.
    """
    line = format_row(row)
    with explain_disk_error(path, len(line)), path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def cut_jsonl(path: Path, size: int) -> None:
    """Cut a file of JSON lines down to the whole lines in its first `size` bytes; it may be absent.

    Raises:
        OSError: the disk fails; names the file.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        kept = file.read(size).rfind(b"\n") + 1
    with explain_disk_error(path):
        os.truncate(path, kept)


def format_row(row: dict[str, Any]) -> bytes:
    """Format a row as a line of JSON, UTF-8."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8")


def release(array: Any) -> None:
    """Give the pages of a mapped array that were read back to the system, which still caches them.

    They would count as memory of each process that has read them. Other arrays are left alone.

    Args:
        array: of NumPy; not mapped with mode "c", whose changes would be lost.
    """
    base = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        base.madvise(mmap.MADV_DONTNEED)
