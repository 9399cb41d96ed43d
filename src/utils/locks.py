"""Locks that a process holds on a file, so that no other one works in the same folder."""

import os
import socket
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # on Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """The lock of a file, for one process at a time.

    It ends with the process, however that ends, or with this object. Processes that are forked
    don't hold it. Where a file system has no locks, there is none.

    Args:
        path: of the file, which is made if it is missing; it gets the name of the process.
    """

    def __init__(self, path: Path):
        self.path = path
        self.file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock, if this object doesn't have it.

        Raises:
            BlockingIOError: another process holds it; names the folder and that process.
        """
        if fcntl is None:
            self.path.touch()
        if fcntl is None or self.file is not None:
            return
        file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            owner = file.read(200).strip() or "unknown"
            raise BlockingIOError(
                f"{self.path.parent}: another process ({owner}) works in this folder; "
                "end it first, or name another folder."
            ) from None
        except OSError:  # no locks here
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self.file = file
