"""A folder of bounded size for ranges of bytes, which several processes may share."""

import hashlib
import logging
import os
from pathlib import Path

from src.utils.files import write_beside

logger = logging.getLogger(__name__)

BUCKETS = 256  # subfolders, each with an equal part of the size


class RangeCache:
    """Bytes by key, of which those that were used least recently are removed.

    Each key belongs to one of 256 subfolders, each of which holds at most 1/256 of the size: so
    what has to be looked through for each new entry stays small, and processes need no common
    state. Bytes that don't fit into a subfolder aren't kept.

    Args:
        folder: made when it is first needed.
        size: of all entries at most, in bytes.
    """

    def __init__(self, folder: Path, size: int):
        self.folder, self.quota = folder, size // BUCKETS
        self.works = True

    def path(self, key: str) -> Path:
        """The file of a key."""
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / name

    def get(self, key: str) -> bytes | None:
        """The bytes of a key, which now is the one used last; None if there are none."""
        path = self.path(key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep the bytes of a key; where they can't be written, there is a warning once."""
        if not self.works or len(data) > self.quota:
            return
        path = self.path(key)
        try:
            self.make_room(path.parent, len(data))
            with write_beside(path) as beside:
                beside.write_bytes(data)
        except FileNotFoundError:  # another process made room, or wrote the same entry
            return
        except OSError as error:
            self.works = False
            reason = error.strerror or str(error)
            logger.warning("%s: could not be written (%s); goes on without.", self.folder, reason)

    def make_room(self, bucket: Path, size: int) -> None:
        """Remove what was used least recently until so many bytes more fit into a subfolder."""
        entries = []
        if bucket.is_dir():
            with os.scandir(bucket) as found:
                for entry in found:
                    try:
                        state = entry.stat()
                    except FileNotFoundError:  # removed by another process
                        continue
                    entries.append((state.st_mtime_ns, state.st_size, entry.path))
        total = size + sum(own for _, own, _ in entries)
        for _, own, path in sorted(entries):
            if total <= self.quota:
                return
            Path(path).unlink(missing_ok=True)
            total -= own
