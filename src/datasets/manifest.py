"""Manifests: JSON lines, a row an utterance, as in NeMo."""

import json
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from src.utils.files import write_beside

SHOW_PROGRESS_FROM = 200_000  # rows


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        audio_filepath: absolute, or relative to the working directory.
        duration: in seconds.
        text: None if there is no transcript.
        offset: where in the file the utterance starts, in seconds.
        speaker: None if unknown.
        lang: None if unknown.
        extra: whatever else the row holds.
    """

    audio_filepath: Path
    duration: float
    text: str | None = None
    offset: float = 0.0
    speaker: str | None = None
    lang: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


OWN_KEYS = ("audio_filepath", "duration", "text", "offset", "speaker", "lang")
TEXT_KEYS = ("text", "speaker", "lang")


class Manifest:
    """Rows of a file that stays on disk.

    Only the place and the duration of each row are kept, as arrays; a row is parsed when it is
    asked for. Worker processes share the file's pages and get no copy of it.

    Args:
        path: of the file; audio paths in it are relative to its folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row is bad; names the file and the line.
    """

    def __init__(self, path: Path | str):
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such manifest.")
        self.read(path, map_file(path))

    @classmethod
    def from_rows(cls, rows: Iterable[dict[str, Any]], path: Path) -> "Manifest":
        """A manifest in memory.

        Args:
            rows: as they would stand in a file.
            path: where that file would lie; audio paths are relative to its folder.
        """
        manifest = object.__new__(cls)
        manifest.read(path, "".join(to_line(row) for row in rows).encode())
        return manifest

    def read(self, path: Path, data: mmap.mmap | bytes) -> None:
        """Find and check the rows."""
        self.path, self.bytes = path, data
        self.starts, self.lines = find_lines(self.bytes)
        self.durations = np.empty(len(self.starts))
        bar = tqdm(
            range(len(self.starts)),
            desc=f"reading {self.path.name}",
            disable=len(self.starts) < SHOW_PROGRESS_FROM,
        )
        for i in bar:
            self.durations[i] = check_row(self.values(i), self.place(i))["duration"]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Row:
        values = self.values(index)
        values["audio_filepath"] = self.path.parent / values["audio_filepath"]
        extra = {k: v for k, v in values.items() if k not in OWN_KEYS}
        own = {k: v for k, v in values.items() if k in OWN_KEYS and v is not None}
        return Row(**own, extra=extra)

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))

    def values(self, index: int) -> dict[str, Any]:
        """A row as it stands in the file."""
        start = self.starts[index]
        end = self.bytes.find(b"\n", start)
        try:
            return json.loads(self.bytes[start : end if end >= 0 else len(self.bytes)])
        except ValueError:
            raise ValueError(f"{self.place(index)}: not JSON.") from None

    def place(self, index: int) -> str:
        """File and line of a row, for messages."""
        return f"{self.path}, line {self.lines[index]}"

    def select(self, keep: np.ndarray) -> "Manifest":
        """The rows at some indices, or where a mask is true; the file is shared."""
        chosen = object.__new__(Manifest)
        chosen.path, chosen.bytes = self.path, self.bytes
        chosen.starts, chosen.lines = self.starts[keep], self.lines[keep]
        chosen.durations = self.durations[keep]
        return chosen

    def __getstate__(self) -> dict[str, Any]:
        if isinstance(self.bytes, bytes):
            return self.__dict__
        return {k: v for k, v in self.__dict__.items() if k != "bytes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "bytes" not in state:
            self.bytes = map_file(self.path)


def map_file(path: Path) -> mmap.mmap | bytes:
    """The bytes of a file, in memory that processes share."""
    if path.stat().st_size == 0:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def find_lines(data: mmap.mmap | bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where each line that isn't empty starts, and its number from 1."""
    array = np.frombuffer(data, dtype=np.uint8)
    ends = np.append(np.flatnonzero(array == ord("\n")), len(array))
    starts = np.append(0, ends[:-1] + 1)
    filled = ends > starts
    return starts[filled], np.arange(1, len(starts) + 1)[filled]


def check_row(values: Any, place: str) -> dict[str, Any]:
    """The values, if they make a row.

    Raises:
        ValueError: they don't; names the place, the key and the value.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{place}: not a JSON object.")
    path, duration = values.get("audio_filepath"), values.get("duration")
    if not isinstance(path, str) or not path:
        raise ValueError(f"{place}: audio_filepath is {path!r}, wanted a path.")
    if not is_number(duration, above=0):
        raise ValueError(f"{place}: duration is {duration!r}, wanted a number of seconds above 0.")
    offset = values.get("offset")
    if offset != 0 and offset is not None and not is_number(offset, above=0):
        raise ValueError(f"{place}: offset is {offset!r}, wanted a number of seconds from 0 on.")
    for key in TEXT_KEYS:
        if not isinstance(values.get(key), str | None):
            raise ValueError(f"{place}: {key} is {values[key]!r}, wanted a text.")
    return values


def is_number(value: Any, above: float) -> bool:
    """Whether a JSON value is a finite number above a bound, and not true or false."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return above < value < float("inf")


def write_manifest(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as they are; the file is whole or absent."""
    with write_beside(path) as beside, beside.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(to_line(row))


def to_line(row: dict[str, Any]) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"
