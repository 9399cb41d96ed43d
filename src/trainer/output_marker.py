"""The file by which inference knows what it wrote into a folder."""

import json
import re
from pathlib import Path, PurePosixPath

from src.utils.files import write_beside

UNFINISHED = re.compile(r"\.unfinished-[0-9a-f]{32}")


class OutputMarker:
    """The lists in a marker file, which may be a stranger's; changes count once they are written.

    Attributes:
        path: of the marker file, which may be absent.
        files: that inference wrote, relative to the marker's folder.
        unfinished: hidden folders for the files of evaluations that are not complete.

    Raises:
        ValueError: the marker is damaged, or names something outside of its folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self.files: set[str] = set()
        self.unfinished: set[str] = set()
        if path.exists():
            self.read()

    def read(self) -> None:
        """Read both lists."""
        try:
            lists = json.loads(self.path.read_text(encoding="utf-8"))
            self.files, self.unfinished = set(lists["files"]), set(lists.get("unfinished", []))
            valid = isinstance(lists["files"], list) and all(map(is_below, self.files))
            valid &= all(UNFINISHED.fullmatch(name) for name in self.unfinished)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            valid = False
        if not valid:
            raise ValueError(f"{self.path}: damaged; remove it or choose another output.")

    def write(self) -> None:
        """Write both lists."""
        lists = {"files": sorted(self.files), "unfinished": sorted(self.unfinished)}
        with write_beside(self.path) as path:
            path.write_text(json.dumps(lists) + "\n", encoding="utf-8")


def is_below(name: str) -> bool:
    """Whether a path stays below the folder that it is relative to."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
