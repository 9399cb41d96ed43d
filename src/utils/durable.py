"""Files that are on the disk once they are written, even after a power cut."""

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from src.utils.files import explain_disk_error


@contextlib.contextmanager
def cleared(folder: Path) -> Iterator[Path]:
    """An empty folder to write to in the block, removed if the block fails."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with explain_disk_error(folder):
            folder.mkdir()
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_durably(path: Path, data: bytes) -> str:
    """Write a file that a power cut can't empty any more.

    Returns:
        The SHA-256 of the data.

    Raises:
        OSError: the file could not be written.
    """
    with explain_disk_error(path, len(data)), path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def write_state(path: Path, state: dict[str, Any]) -> str:
    """Write a training state by `torch.save`, as durably.

    Returns:
        The SHA-256 of the file.

    Raises:
        OSError: the file could not be written.
    """
    with path.open("wb", buffering=0) as file:
        output = HashingFile(file)
        torch.save(state, output)  # type: ignore[arg-type]
        with explain_disk_error(path, output.size):
            output.raise_error()
            os.fsync(file.fileno())
    return output.sha256.hexdigest()


class HashingFile(io.RawIOBase):
    """A file for `torch.save` to write to, which hashes what is written to an unbuffered file.

    An error doesn't interrupt `torch.save`, which would hide it behind an error of its own: it is
    kept for `raise_error`.
    """

    def __init__(self, file: io.FileIO):
        super().__init__()
        self.file = file
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write data, unless an earlier write failed."""
        self.sha256.update(data)
        self.size += len(data)
        if self.error is None:
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[self.file.write(rest) :]
            except OSError as error:
                self.error = error
        return len(data)

    def raise_error(self) -> None:
        """Raise the first error of `write`, if there was one."""
        if self.error is not None:
            raise self.error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse this
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
