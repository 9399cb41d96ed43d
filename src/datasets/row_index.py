"""Where the rows of a manifest are, and a few numbers of each, kept beside large ones."""

import hashlib
import json
import logging
import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from src.utils.audio_files import check_file
from src.utils.files import create_beside, write_beside

logger = logging.getLogger(__name__)

SHOW_PROGRESS_FROM = 200_000  # rows
KEEP_FROM = 1 << 25  # bytes of a manifest whose index is kept, and made by several processes
BLOCK = 1 << 22  # bytes read at a time
LINE = 1 << 10  # bytes read at first for a row
ENDS = 1 << 16  # bytes at both ends of a manifest by which a change is noticed
VERSION = 1  # of the files of an index; another one makes them anew
UTF8_MARK = b"\xef\xbb\xbf"  # with which some editors begin a file
NO_TEXT = -1

DTYPES: dict[str, np.dtype] = {
    "starts": np.dtype(np.int64),  # of each row in the file, in bytes
    "lines": np.dtype(np.int32),  # its number, from 1
    "durations": np.dtype(np.float64),  # in seconds
    "text_lengths": np.dtype(np.int32),  # in characters, or NO_TEXT
    "repeated": np.dtype(np.bool_),  # whether another row has audio of the same name
}
BLOCK_DTYPES = {key: dtype for key, dtype in DTYPES.items() if key != "repeated"}
BLOCK_DTYPES["names"] = np.dtype(np.int64)  # numbers that stand for the names of audio
SPARE = 8  # growing columns get room for one row more for so many

Index = dict[str, np.ndarray]
Facts = tuple[float, int, int]  # duration, length of the text, and a number for the audio's name
FactsOf = Callable[[list[bytes]], Iterator[Facts]]


class RowBytes:
    """The lines of a manifest in memory."""

    def __init__(self, data: bytes):
        self.data, self.size = data, len(data)

    def read(self, start: int, end: int) -> bytes:
        """The bytes between two places."""
        return self.data[start:end]

    def line(self, start: int) -> bytes:
        """The line that starts at a byte."""
        end = self.data.find(b"\n", start)
        return self.data[start : end if end >= 0 else self.size]

    def digest(self) -> bytes:
        """Another one for other contents."""
        return hashlib.blake2b(self.data, digest_size=16).digest()


class RowFile:
    """The lines of a manifest on disk, which are read when they are asked for.

    Nothing is mapped into memory, or the pages of a large manifest would add up in every process.

    Args:
        path: of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file.
    """

    def __init__(self, path: Path):
        check_file(path, "manifest")
        self.path = path
        self.file = path.open("rb", buffering=0)
        self.size = os.fstat(self.file.fileno()).st_size

    def read(self, start: int, end: int) -> bytes:
        """The bytes between two places; of several processes and threads at the same time."""
        if not hasattr(os, "pread"):  # on Windows
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(max(0, end - start))
        parts = []
        while start < end and (part := os.pread(self.file.fileno(), end - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def line(self, start: int) -> bytes:
        """The line that starts at a byte."""
        size = LINE
        while True:
            line, found, _ = self.read(start, start + size).partition(b"\n")
            if found or len(line) < size:
                return line
            size *= 8

    def digest(self) -> bytes:
        """Another one for other contents: of the size, the time and both ends of the file."""
        known = f"{self.size} {os.fstat(self.file.fileno()).st_mtime_ns}".encode()
        ends = self.read(0, ENDS) + self.read(max(0, self.size - ENDS), self.size)
        return hashlib.blake2b(known + ends, digest_size=16).digest()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]


Source = RowBytes | RowFile


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


def find_lines(
    data: mmap.mmap | bytes, first: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, end and number (from 1) of each line that isn't empty, [N] each.

    Args:
        data: of whole lines.
        first: whether they are the first ones of a file.
    """
    array = np.frombuffer(data, dtype=np.uint8)
    blocks = range(0, len(array), BLOCK)
    breaks = [np.flatnonzero(array[i : i + BLOCK] == ord("\n")) + i for i in blocks]
    ends = np.concatenate([*breaks, np.array([len(array)])])
    starts = np.append(0, ends[:-1] + 1)
    if first and data[: len(UTF8_MARK)] == UTF8_MARK:
        starts[0] = len(UTF8_MARK)
    filled = ends > starts
    only = filled & (ends == starts + 1)  # a carriage return alone is an empty line of Windows
    filled[only] = array[starts[only]] != ord("\r")
    numbers = np.arange(1, len(starts) + 1, dtype=np.int32)
    return starts[filled], ends[filled], numbers[filled]


class Blocks:
    """Parts of a manifest, of whole lines, each read as the columns of its rows.

    Args:
        source: of the lines.
        facts: of each of some lines; raises ValueError when a bad one is reached.
    """

    def __init__(self, source: Source, facts: FactsOf):
        self.source, self.facts = source, facts
        self.bounds = [0]
        while self.bounds[-1] < source.size:
            start = min(self.bounds[-1] + BLOCK, source.size)
            self.bounds.append(min(start + len(source.line(start)) + 1, source.size))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Columns of the rows; `newlines` of the block; and `error`: line and message, or None."""
        offset = self.bounds[i]
        data = self.source.read(offset, self.bounds[i + 1])
        starts, ends, lines = find_lines(data, first=i == 0)
        columns: dict[str, Any] = {"newlines": data.count(b"\n")}
        durations, lengths, names = np.empty(len(starts)), lines.copy(), starts.astype(np.uint64)
        bounds = zip(starts.tolist(), ends.tolist(), strict=True)
        done = 0
        try:
            for row in self.facts([data[start:end] for start, end in bounds]):
                durations[done], lengths[done], names[done] = row
                done += 1
        except ValueError as error:
            return columns | {"error": (int(lines[done]), str(error))}
        own = {"starts": starts + offset, "lines": lines, "durations": durations}
        own |= {"text_lengths": lengths, "names": names.view(np.int64)}
        return columns | own | {"error": None}


class Columns:
    """Columns that grow in place: a list of their parts would take as much memory once more.

    Args:
        dtypes: of each column, `starts` among them.
    """

    def __init__(self, dtypes: dict[str, np.dtype]):
        self.arrays = {key: np.empty(0, dtype) for key, dtype in dtypes.items()}
        self.rows = self.room = 0

    def append(self, values: dict[str, Any]) -> None:
        """Append values of some rows, [n] by column."""
        end = self.rows + len(values["starts"])
        if end > self.room:
            self.resize(end + end // SPARE)
        for key, array in self.arrays.items():
            array[self.rows : end] = values[key]
        self.rows = end

    def resize(self, rows: int) -> None:
        """Make room for a number of rows; of large arrays the system moves the pages, no copy."""
        self.room = rows
        for array in self.arrays.values():
            array.resize(rows, refcheck=False)

    def done(self) -> dict[str, np.ndarray]:
        """The columns, [N] each."""
        self.resize(self.rows)
        return self.arrays


def index_of(source: Source, facts: FactsOf, name: str) -> tuple[Index, tuple[int, str] | None]:
    """The index of the rows of a manifest, read from its kept files or else made.

    Args:
        source: of the lines.
        facts: of each of some lines; raises ValueError when a bad one is reached.
        name: of the file, for the progress bar.

    Returns:
        The index; and line and message of the first bad row, or None.
    """
    kept = isinstance(source, RowFile) and source.size >= KEEP_FROM
    if kept and (index := read_index(source)) is not None:  # type: ignore[arg-type]
        return index, None
    index, error = make_index(source, facts, name, workers=os.cpu_count() or 1 if kept else 0)
    if kept and error is None:
        write_index(source, index)  # type: ignore[arg-type]
        index = read_index(source) or index  # type: ignore[arg-type]
    return index, error


def make_index(
    source: Source, facts: FactsOf, name: str, workers: int
) -> tuple[Index, tuple[int, str] | None]:
    """The index of the rows of a manifest, as of `index_of`, made by some worker processes."""
    columns = Columns(BLOCK_DTYPES)
    before = 0  # lines of earlier blocks
    blocks = Blocks(source, facts)
    quiet = source.size < KEEP_FROM
    for block in read_blocks(blocks, workers, f"reading {name}", quiet):
        if block["error"]:
            line, message = block["error"]
            return {}, (before + line, message)
        block["lines"] += before
        before += block["newlines"]
        columns.append(block)
    index = columns.done()
    index["repeated"] = repeated(index.pop("names"))
    return index, None


def read_blocks(blocks: Any, workers: int, title: str, quiet: bool) -> Iterator[dict[str, Any]]:
    """The items `blocks[i]` in their order.

    Args:
        blocks: with `__len__` and `__getitem__`, which gives dicts.
        workers: processes that read them; 0: this one does.
        title: of the progress bar.
        quiet: without one.
    """
    items: Iterable[dict[str, Any]] = (blocks[i] for i in range(len(blocks)))
    if workers:
        from src.datasets.loading.workers import read_in_order  # needs torch, unlike the rest

        items = read_in_order(blocks, workers)
    yield from tqdm(items, desc=title, total=len(blocks), disable=quiet)


def repeated(names: np.ndarray) -> np.ndarray:
    """Whether each number is there twice or more, [N]."""
    ordered = np.sort(names)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    if not len(twice):
        return np.zeros(len(names), dtype=bool)
    places = np.searchsorted(twice, names)
    return twice[np.minimum(places, len(twice) - 1)] == names


# Kept beside the manifest ------------------------------------------------------------------


def folder_of(path: Path) -> Path:
    """The folder in which the index of a manifest is kept."""
    return path.with_name(f"{path.name}.rows")


def read_index(source: RowFile, quiet: bool = False) -> Index | None:
    """The kept index of a manifest, mapped into memory; None if there is none of its contents.

    A damaged one is named in a warning, unless `quiet`.
    """
    level = logging.DEBUG if quiet else logging.WARNING
    folder = folder_of(source.path)
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        if about != description(source):
            return None
        index = {
            key: np.load(folder / f"{key}.npy", mmap_mode="r", allow_pickle=False) for key in DTYPES
        }
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, RecursionError):
        logger.log(level, "%s: not readable; made anew.", folder)
        return None
    shapes = {array.shape for array in index.values()}
    dtypes = {key: array.dtype for key, array in index.items()}
    if len(shapes) != 1 or len(shapes.pop()) != 1 or dtypes != DTYPES:
        logger.log(level, "%s: damaged; made anew.", folder)
        return None
    return {key: np.asarray(array) for key, array in index.items()}


def write_index(source: RowFile, index: Index) -> None:
    """Keep the index of a manifest beside it, if its folder can be written."""
    folder = folder_of(source.path)
    try:
        if folder.is_dir():
            if read_index(source, quiet=True) is not None:  # another process was faster
                return
            shutil.rmtree(folder)
        with create_beside(folder) as beside:
            for key in DTYPES:
                np.save(beside / f"{key}.npy", index[key], allow_pickle=False)
            text = json.dumps(description(source))
            (beside / "about.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        if read_index(source, quiet=True) is None:
            reason = error.strerror or error
            logger.warning("%s: could not be written (%s); made each time.", folder, reason)


def description(source: RowFile) -> dict[str, Any]:
    """What an index is about: the contents of a manifest."""
    return {"version": VERSION, "manifest": source.digest().hex()}


def kept_column(source: Source, name: str, lines: np.ndarray) -> np.ndarray:
    """A number of each of some rows that is kept beside a large manifest; -1 where there is none.

    Args:
        source: of the manifest.
        name: of the column.
        lines: numbers of the rows' lines, [n].
    """
    unknown = np.full(len(lines), -1, dtype=np.int32)
    if not isinstance(source, RowFile) or source.size < KEEP_FROM:
        return unknown
    index, path = read_index(source), folder_of(source.path) / f"{name}.npy"
    if index is None or not path.is_file():
        return unknown
    try:
        column = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return unknown
    if column.shape != index["lines"].shape or column.dtype != unknown.dtype:
        return unknown
    return column[np.searchsorted(index["lines"], lines)]


def keep_column(source: Source, name: str, lines: np.ndarray, values: np.ndarray) -> None:
    """Keep a number of each of some rows beside a large manifest, if its folder can be written.

    Args:
        source: of the manifest.
        name: of the column.
        lines: numbers of the rows' lines, [n].
        values: int32, [n].
    """
    if not isinstance(source, RowFile) or source.size < KEEP_FROM:
        return
    index, path = read_index(source), folder_of(source.path) / f"{name}.npy"
    if index is None:
        return
    column = kept_column(source, name, index["lines"]).copy()
    column[np.searchsorted(index["lines"], lines)] = values
    try:
        with write_beside(path) as beside, beside.open("wb") as file:
            np.save(file, column, allow_pickle=False)
    except OSError as error:
        logger.warning("%s: could not be written (%s).", path, error.strerror or error)
