"""Locks that a process holds on a file, so that no other one works in the same folder."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # on Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """A POSIX record lock of a file, for one process at a time.

    It ends with the process, with this object, or if the process opens and closes the file once
    more; on NFS, the lock of a node that crashed may last longer. Processes that are forked don't
    hold it. Where a file system has no locks, there is none.

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
        if fcntl is None or self.file is not None:
            return
        file = self.path.open("a+", encoding="utf-8", errors="replace")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            owner = file.read(200).strip() or "another process"
            raise BlockingIOError(
                f"{self.path.parent}: {owner} works in this folder; end it first, or name another."
            ) from None
        except OSError:  # no locks here
            pass
        with suppress(OSError):  # a full disk; the name is only for messages
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        self.file = file
