"""Manifests: JSON lines, one row for each utterance, as in NeMo."""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from src.datasets.json_lines import parse, parse_all
from src.datasets.row_index import NO_TEXT, Facts, RowBytes, RowFile, Source, index_of
from src.utils.audio_files import MAX_SECONDS
from src.utils.byte_ranges import Remote
from src.utils.files import release, write_beside
from src.utils.options import has_surrogates, is_finite, shown
from src.utils.shard_sample import SHARD_KEYS, AudioPath, audio_place, check_shard

logger = logging.getLogger(__name__)

UNSAFE = re.compile(r"[^\w.-]")  # in the name of a file

MOST_BYTES = 1 << 24  # that are read at once
SPARSE = 1 << 12  # bytes from one row to the next, from which rows are read by themselves

COLUMNS = ("starts", "lines", "text_lengths", "repeated")


@dataclass(frozen=True)
class Row:
    """One row of a manifest.

    Attributes:
        audio_filepath: absolute, or relative to the working directory; or where in a shard it lies.
        duration: in seconds.
        text: None if there is no transcript.
        offset: where in the file the utterance starts, in seconds.
        speaker: None if unknown.
        lang: None if unknown.
        cut: seconds that were cut off the start and the end, of which `offset` and `duration` know.
        extra: whatever else the row holds.
    """

    audio_filepath: AudioPath
    duration: float
    text: str | None = None
    offset: float = 0.0
    speaker: str | None = None
    lang: str | None = None
    cut: tuple[float, float] = (0.0, 0.0)
    extra: dict[str, Any] = field(default_factory=dict)


OWN_KEYS = ("audio_filepath", "duration", "text", "offset", "speaker", "lang")
TEXT_KEYS = ("text", "speaker", "lang")
LIMIT = f"at most {MAX_SECONDS:g}"


class Column:
    """Values of some rows of a file, taken out of those of all rows when they are asked for.

    All rows of a large manifest are on a disk; a copy of some would be in memory. Pickled, it is
    that copy, an array.

    Args:
        values: of all rows, [M].
        rows: indices of the chosen ones, [N].
    """

    def __init__(self, values: np.ndarray, rows: np.ndarray):
        self.values, self.rows = values, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.values[self.rows[index]]

    def __reduce__(self) -> tuple:
        return np.asarray, (self[:],)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """A copy of the values, [N]."""
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)


class Manifest:
    """Rows of a manifest, which stays on disk.

    Only a few numbers of each row are in arrays; a row is parsed when it is asked for. The arrays
    of a large manifest are kept in the folder `<manifest>.rows` beside it as long as the
    file stays the same, and mapped into the memory that all processes share.

    Args:
        path: of the file; audio paths in it are relative to its folder.

    Attributes:
        durations: in seconds, [N].
        text_lengths: characters of each row's transcript, -1 if it has none, [N].
        repeated: whether another row has audio of the same name, [N].
        lines: number of each row's line in the file, from 1, [N].
        starts: of each row in the file, in bytes, [N].
        cut: seconds that were cut off the start of each row by `trim`, [N]; None: none were.
        remote: how shards are read over the network; None: with the defaults.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, or a row is bad; names the file and the line.
    """

    starts: np.ndarray | Column
    lines: np.ndarray | Column
    text_lengths: np.ndarray | Column
    repeated: np.ndarray | Column

    def __init__(self, path: Path | str):
        path = Path(path)
        self.read(path, RowFile(path))

    @classmethod
    def from_rows(cls, rows: Iterable[dict[str, Any]], path: Path) -> "Manifest":
        """A manifest in memory.

        Args:
            rows: as they would stand in a file.
            path: where that file would lie; audio paths are relative to its folder.
        """
        manifest = object.__new__(cls)
        manifest.read(path, RowBytes("".join(to_line(row) for row in rows).encode()))
        return manifest

    def read(self, path: Path, source: Source) -> None:
        """Find and check the rows in the lines of a file."""
        self.path, self.source = path, source
        index, error = index_of(source, facts_of, path.name)
        if error is not None:
            line, message = error
            raise ValueError(f"{path}, line {line}: {message}")
        for name in COLUMNS:
            setattr(self, name, index[name])
        self.durations = index["durations"]
        self.cut: np.ndarray | None = None
        self.remote: Remote | None = None

    @property
    def has_text(self) -> np.ndarray:
        """Whether each row has a transcript, [N]."""
        return np.asarray(self.text_lengths) != NO_TEXT

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Row:
        values, cut = self.values(index), (0.0, 0.0)
        values["audio_filepath"] = audio_place(values, self.path.parent, self.remote)
        if self.cut is not None:
            start, seconds = float(self.cut[index]), float(self.durations[index])
            cut = (start, max(0.0, values["duration"] - start - seconds))
            values["offset"], values["duration"] = (values.get("offset") or 0.0) + start, seconds
        extra = {k: v for k, v in values.items() if k not in OWN_KEYS and k not in SHARD_KEYS}
        own = {k: values[k] for k in OWN_KEYS if values.get(k) is not None}
        return Row(**own, cut=cut, extra=extra)

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))

    def values(self, index: int) -> dict[str, Any]:
        """The keys and values of a row, as they stand in the file."""
        try:
            return check_row(parse(self.source.line(int(self.starts[index]))))
        except ValueError as error:
            raise ValueError(f"{self.place(index)}: {error}") from None

    def texts(self, rows: np.ndarray) -> list[str]:
        """Transcripts of some rows, empty where there is none; neighbours are read together.

        Args:
            rows: indices in ascending order, at least one.

        Raises:
            ValueError: a row is bad by now; names the file and the line.
        """
        starts = self.starts[rows].tolist()
        first, last = starts[0], starts[-1]
        if last - first > min(MOST_BYTES, SPARSE * len(rows)):
            half = len(rows) // 2
            return self.texts(rows[:half]) + self.texts(rows[half:])
        data = self.source.read(first, last) + self.source.line(last)
        ends = [data.find(b"\n", start - first) for start in starts]
        lines = [data[a - first : b if b >= 0 else None] for a, b in zip(starts, ends, strict=True)]
        try:
            return [values.get("text") or "" for values in parse_all(lines)]
        except (AttributeError, ValueError):  # the file has changed: names the line
            return [self.values(row).get("text") or "" for row in rows.tolist()]

    def place(self, index: int) -> str:
        """File and line of a row, for messages; for a manifest made of a folder, the folder."""
        if self.path.is_dir():
            return str(self.path)
        return f"{self.path}, line {self.lines[index]}"

    def release(self) -> None:
        """Give memory with what was read of a kept index back; it is read again when needed."""
        release(self.durations)
        for name in COLUMNS:
            own = getattr(self, name)
            release(own.values if isinstance(own, Column) else own)

    def select(self, keep: np.ndarray) -> "Manifest":
        """A manifest of the rows at some indices, or where a mask is true; the file is shared."""
        rows = np.arange(len(self), dtype=np.int32)[keep]
        chosen = copy(self)
        chosen.durations = self.durations[rows]
        chosen.cut = None if self.cut is None else self.cut[rows]
        of_file = self.starts.rows[rows] if isinstance(self.starts, Column) else rows
        for name in COLUMNS:
            own = getattr(self, name)
            values = own.values if isinstance(own, Column) else own
            setattr(chosen, name, Column(values, of_file))
        return chosen

    def trim(self, start: np.ndarray, durations: np.ndarray) -> "Manifest":
        """A manifest of parts of the rows; the file is shared.

        Args:
            start: seconds to be cut off the start of each row, [N].
            durations: of what is left, in seconds, [N].
        """
        trimmed = copy(self)
        trimmed.cut, trimmed.durations = start if self.cut is None else self.cut + start, durations
        return trimmed


def facts_of(lines: Sequence[bytes]) -> Iterator[Facts]:
    """Of each row: duration, length of the text, and a number that follows from its audio's name.

    Raises:
        ValueError: when a bad row is reached.
    """
    for values in parse_all(lines):
        check_row(values)
        name, text = safe_name(values["audio_filepath"]).encode(), values.get("text")
        # Fast; names that collide would only have their lines added to the ids.
        number = crc32(name) << 32 | crc32(name[::-1])
        yield values["duration"], NO_TEXT if text is None else len(text), number


def check_row(values: Any) -> dict[str, Any]:
    """The values, if they make a row.

    Raises:
        ValueError: they don't; names the key and the value.
    """
    if not isinstance(values, dict):
        raise ValueError("not a JSON object.")
    path, duration = values.get("audio_filepath"), values.get("duration")
    if not is_text(path) or not path:
        raise ValueError(f"audio_filepath is {shown(path)}, wanted a path.")
    if not is_seconds(duration) or duration == 0:
        raise ValueError(
            f"duration is {shown(duration)}, wanted a number of seconds above 0, {LIMIT}."
        )
    offset = values.get("offset")
    if offset is not None and not is_seconds(offset):
        raise ValueError(
            f"offset is {shown(offset)}, wanted a number of seconds from 0 on, {LIMIT}."
        )
    for key in TEXT_KEYS:
        value = values.get(key)
        if value is not None and not is_text(value):
            raise ValueError(f"{key} is {shown(value)}, wanted a text.")
    if values.get("shard") is not None:
        check_shard(values)
    return values


def is_seconds(value: Any) -> bool:
    """Whether a JSON value is a number from 0 to `MAX_SECONDS`."""
    return is_finite(value) and 0 <= value <= MAX_SECONDS


def is_text(value: Any) -> bool:
    """Whether a JSON value is a string that can be written as UTF-8."""
    return isinstance(value, str) and (value.isascii() or not has_surrogates(value))


def safe_name(path: str) -> str:
    """The name of an audio file without its folder and ending, safe as a file's name."""
    name = path.rpartition("/")[2]
    return UNSAFE.sub("_", name.rpartition(".")[0] or name)


def cached_manifest(
    path: Path, make_rows: Callable[[], Iterable[dict[str, Any]]], source: Path | None = None
) -> Manifest:
    """The manifest at a path, made and written there on first use, or if it is empty.

    Where it can't be written, as on a disk that is only for reading, its rows stay in memory.

    Args:
        path: of the manifest.
        make_rows: as they would stand in it; an iterator's are written one by one.
        source: the file that they come from; when it is newer, they are made again.
    """
    filled = path.exists() and path.stat().st_size > 0
    if filled and (source is None or path.stat().st_mtime >= source.stat().st_mtime):
        return Manifest(path)
    try:
        write_manifest(path, make_rows())
    except FileNotFoundError:  # of a recording or a transcript
        raise
    except OSError as error:
        reason = error.strerror or error  # that of a full disk is only a sentence
        logger.warning("%s: could not be written (%s); made anew each time.", path, reason)
        return Manifest.from_rows(make_rows(), path)
    return Manifest(path)


def write_manifest(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as they are; the file is whole or absent."""
    with write_beside(path) as beside, beside.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(to_line(row))


def to_line(row: dict[str, Any]) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False) + "\n"
