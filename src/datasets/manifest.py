"""Manifests: JSON lines, one row for each utterance, as in NeMo."""

import json
import logging
import mmap
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from src.utils.audio_files import MAX_SECONDS, check_file
from src.utils.byte_ranges import Remote
from src.utils.files import write_beside
from src.utils.options import has_surrogates, is_finite, shown
from src.utils.shard_sample import SHARD_KEYS, AudioPath, audio_place, check_shard

logger = logging.getLogger(__name__)

SHOW_PROGRESS_FROM = 200_000  # rows
BLOCK = 1 << 24  # bytes searched at a time
UTF8_MARK = b"\xef\xbb\xbf"  # with which some editors begin a file

UNSAFE = re.compile(r"[^\w.-]")  # in the name of a file
DECODE = json.JSONDecoder().decode

FACTS = np.dtype([("duration", np.float64), ("has_text", np.bool_), ("name", np.int64)])
ARRAYS = ("starts", "lines", "durations", "has_text", "repeated")


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
ROW_KEYS = (*OWN_KEYS, "cut")
TEXT_KEYS = ("text", "speaker", "lang")
LIMIT = f"at most {MAX_SECONDS:g}"


class Manifest:
    """Rows of a manifest, which stays on disk.

    Only a few numbers of each row are kept, as arrays; a row is parsed when it is asked for.
    Worker processes share the file's pages and get no copy of it.

    Args:
        path: of the file; audio paths in it are relative to its folder.

    Attributes:
        durations: in seconds, [N].
        has_text: whether each row has a transcript, [N].
        repeated: whether another row has audio of the same name, [N].
        lines: number of each row's line in the file, from 1, [N].
        cut: seconds that were cut off the start of each row by `trim`, [N]; None: none were.
        remote: how shards are read over the network; None: with the defaults.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, or a row is bad; names the file and the line.
    """

    def __init__(self, path: Path | str):
        path = Path(path)
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
        """Find and check the rows in the bytes of a file."""
        self.path, self.bytes = path, data
        self.starts, ends, self.lines = find_lines(data)
        bar = tqdm(
            self.facts(ends),
            desc=f"reading {path.name}",
            total=len(ends),
            disable=len(ends) < SHOW_PROGRESS_FROM,
        )
        facts = np.fromiter(bar, FACTS, len(ends))
        self.durations, self.has_text = facts["duration"].copy(), facts["has_text"].copy()
        _, index, counts = np.unique(facts["name"], return_inverse=True, return_counts=True)
        self.repeated = counts[index] > 1
        self.cut: np.ndarray | None = None
        self.remote: Remote | None = None

    def facts(self, ends: np.ndarray) -> Iterator[tuple[float, bool, int]]:
        """Duration of each row, whether it has a text, and a hash of its audio's name."""
        for i, (start, end) in enumerate(zip(self.starts.tolist(), ends.tolist(), strict=True)):
            try:
                values = check_row(parse(self.bytes[start:end]))
            except ValueError as error:
                raise ValueError(f"{self.place(i)}: {error}") from None
            name = safe_name(values["audio_filepath"])
            yield values["duration"], values.get("text") is not None, hash(name)

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Row:
        values = self.values(index)
        values["audio_filepath"] = audio_place(values, self.path.parent, self.remote)
        if self.cut is not None:
            start, seconds = float(self.cut[index]), float(self.durations[index])
            values["cut"] = (start, max(0.0, values["duration"] - start - seconds))
            values["offset"], values["duration"] = (values.get("offset") or 0.0) + start, seconds
        extra = {k: v for k, v in values.items() if k not in ROW_KEYS and k not in SHARD_KEYS}
        own = {k: v for k, v in values.items() if k in ROW_KEYS and v is not None}
        return Row(**own, extra=extra)

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))

    def values(self, index: int) -> dict[str, Any]:
        """The keys and values of a row, as they stand in the file."""
        start = self.starts[index]
        end = self.bytes.find(b"\n", start)
        try:
            return parse(self.bytes[start : end if end >= 0 else len(self.bytes)])
        except ValueError as error:
            raise ValueError(f"{self.place(index)}: {error}") from None

    def place(self, index: int) -> str:
        """File and line of a row, for messages; for a manifest made of a folder, the folder."""
        if self.path.is_dir():
            return str(self.path)
        return f"{self.path}, line {self.lines[index]}"

    def select(self, keep: np.ndarray) -> "Manifest":
        """A manifest of the rows at some indices, or where a mask is true; the file is shared."""
        chosen = object.__new__(Manifest)
        chosen.path, chosen.bytes, chosen.remote = self.path, self.bytes, self.remote
        for name in ARRAYS:
            setattr(chosen, name, getattr(self, name)[keep])
        chosen.cut = None if self.cut is None else self.cut[keep]
        return chosen

    def trim(self, start: np.ndarray, durations: np.ndarray) -> "Manifest":
        """A manifest of parts of the rows; the file is shared.

        Args:
            start: seconds to be cut off the start of each row, [N].
            durations: of what is left, in seconds, [N].
        """
        trimmed = self.select(np.arange(len(self)))
        trimmed.cut, trimmed.durations = start if self.cut is None else self.cut + start, durations
        return trimmed

    def __getstate__(self) -> dict[str, Any]:
        if isinstance(self.bytes, bytes):
            return self.__dict__
        return {k: v for k, v in self.__dict__.items() if k != "bytes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "bytes" not in state:
            self.bytes = map_file(self.path)


def map_file(path: Path) -> mmap.mmap | bytes:
    """The bytes of a manifest, in memory that processes share.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file.
    """
    check_file(path, "manifest")
    if path.stat().st_size == 0:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def find_lines(data: mmap.mmap | bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, end and number (from 1) of each line that isn't empty, [N] each."""
    array = np.frombuffer(data, dtype=np.uint8)
    blocks = range(0, len(array), BLOCK)
    breaks = [np.flatnonzero(array[i : i + BLOCK] == ord("\n")) + i for i in blocks]
    ends = np.concatenate([*breaks, np.array([len(array)])])
    starts = np.append(0, ends[:-1] + 1)
    if data[: len(UTF8_MARK)] == UTF8_MARK:
        starts[0] = len(UTF8_MARK)
    filled = ends > starts
    only = filled & (ends == starts + 1)  # a carriage return alone is an empty line of Windows
    filled[only] = array[starts[only]] != ord("\r")
    numbers = np.arange(1, len(starts) + 1, dtype=np.int32)
    return starts[filled], ends[filled], numbers[filled]


def parse(line: bytes) -> Any:
    """The JSON value of a line.

    Raises:
        ValueError: it isn't JSON, or nested too deeply.
    """
    try:
        return DECODE(line.decode("utf-8"))
    except ValueError:
        raise ValueError("not JSON.") from None
    except RecursionError:
        raise ValueError("not JSON that can be read: nested too deeply.") from None


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
        if values.get(key) is not None and not is_text(values[key]):
            raise ValueError(f"{key} is {shown(values[key])}, wanted a text.")
    if values.get("shard") is not None:
        check_shard(values)
    return values


def is_seconds(value: Any) -> bool:
    """Whether a JSON value is a number from 0 to `MAX_SECONDS`."""
    return is_finite(value) and 0 <= value <= MAX_SECONDS


def is_text(value: Any) -> bool:
    """Whether a JSON value is a string that can be written as UTF-8."""
    return isinstance(value, str) and not has_surrogates(value)


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
        logger.warning("%s: could not be written (%s); made anew each time.", path, error.strerror)
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
