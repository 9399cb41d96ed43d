"""Manifests of existing shards: tar files of webdataset, or tarred data sets of NeMo."""

import io
import itertools
import json
import logging
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from src.datasets.manifest import Manifest, check_row
from src.utils.audio_files import ENDINGS, full_duration
from src.utils.byte_ranges import Remote, file_size, is_url, read_range
from src.utils.options import shown
from src.utils.shard_sample import SHARD_KEYS, ShardSample

logger = logging.getLogger(__name__)

Values = dict[str, Any]

# Endings of audio, those that make_shards.py leaves as they are among them.
OTHERS = ("opus", "oga", "sph", "aif", "aiff", "aifc", "au", "snd", "caf", "w64", "rf64", "voc")
AUDIO = (*(ending[1:] for ending in ENDINGS), *OTHERS)
TEXTS = ("text", "speaker", "lang")  # that are taken from JSON files
READ_AT_ONCE = 1 << 23  # bytes
LARGEST_MEMBER = 1 << 34  # bytes; a larger one means a damaged header
BRACES = re.compile(r"\{([^{}]*)\}|_OP_(.*?)_CL_")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
NUMBER = re.compile(r"(\d+)\D*$")
SUB = re.compile(r"-sub\d+(?=\.\w+$|$)")  # NeMo's mark of further parts of the same file
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Member:
    """A regular file in a shard.

    Attributes:
        name: in the shard.
        start: of its first byte in the shard.
        data: its content.
    """

    name: str
    start: int
    data: bytes

    def values(self, shard: str) -> Values:
        """The keys by which a row names it."""
        place = (shard, self.start, len(self.data), zlib.crc32(self.data))
        return dict(zip(SHARD_KEYS, place, strict=True))


class ByteReader(io.RawIOBase):
    """A file that is read by ranges, for reading from its start to its end.

    Args:
        place: path or address.
        remote: how it is read over the network.
    """

    def __init__(self, place: str, remote: Remote):
        self.place, self.remote = place, remote
        self.size, self.position = file_size(place, remote), 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; returns it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = max(0, base + offset)
        return self.position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next; returns how many bytes that are."""
        size = max(0, min(len(buffer), self.size - self.position))
        if size:
            buffer[:size] = read_range(self.place, self.position, size, remote=self.remote)
            self.position += size
        return size


def expand(patterns: list[str]) -> list[str]:
    """Paths and addresses of patterns like `audio_{0..7}.tar`, NeMo's `_OP_0..7_CL_` included.

    Raises:
        FileNotFoundError: a folder has no tar files.
        ValueError: a range is not ascending, or a file is named twice.
    """
    places: list[str] = []
    for pattern in patterns:
        if not is_url(pattern) and Path(pattern).is_dir():
            found = sorted(Path(pattern).glob("*.tar"), key=natural)
            if not found:
                raise FileNotFoundError(f"{pattern}: no .tar files in this folder.")
            places += map(str, found)
        else:
            places += expand_braces(pattern)
    for place, count in zip(*np.unique(places, return_counts=True), strict=True):
        if count > 1:
            raise ValueError(f"{place}: named {count} times.")
    return places


def natural(path: Path) -> list[Any]:
    """A key by which `a_2` comes before `a_10`."""
    return [(not one.isdecimal(), one.zfill(20)) for one in re.split(r"(\d+)", path.name)]


def expand_braces(pattern: str) -> list[str]:
    """The texts that a pattern with braces stands for.

    Raises:
        ValueError: a range is not ascending.
    """
    match = BRACES.search(pattern)
    if match is None:
        return [pattern]
    inner = match[1] if match[1] is not None else match[2]
    limits = RANGE.fullmatch(inner)
    if limits is None:
        choices = inner.split(",")
    else:
        first, last = int(limits[1]), int(limits[2])
        if not first <= last < first + 1_000_000:
            raise ValueError(f"{pattern}: {inner} is no ascending range of at most a million.")
        digits = len(limits[1]) if limits[1].startswith("0") else 0
        choices = [str(number).zfill(digits) for number in range(first, last + 1)]
    rests = expand_braces(pattern[match.end() :])
    return [pattern[: match.start()] + a + b for a in choices for b in rests]


def members(place: str, remote: Remote) -> Iterator[Member]:
    """The regular files in a shard, in order.

    Raises:
        FileNotFoundError: there is no such shard.
        ValueError: it is no tar file, or compressed, damaged or truncated; names the byte.
        OSError: the disk fails, or the network or the server in all attempts.
    """
    raw = ByteReader(place, remote)
    with io.BufferedReader(raw, READ_AT_ONCE) as file:
        if file.peek(2)[:2] == GZIP:
            raise ValueError(f"{place}: compressed; shards are plain tar files, so gunzip it.")
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for info in tar:
                    if not info.isreg() or info.issparse():
                        continue
                    if info.size > LARGEST_MEMBER:
                        raise tarfile.ReadError(f"{info.name} has {info.size} bytes")
                    file.seek(info.offset_data)
                    data = file.read(info.size)
                    if len(data) < info.size:
                        raise ValueError(f"{place}: truncated within {info.name}.")
                    yield Member(info.name, info.offset_data, data)
                end = tar.offset
        except tarfile.TarError as error:
            raise ValueError(f"{place}: no tar file, or damaged ({error}).") from None
        # tarfile takes a damaged header for the end.
        file.seek(end)
        mark = file.read(tarfile.BLOCKSIZE)
        if len(mark) < tarfile.BLOCKSIZE:
            raise ValueError(f"{place}: truncated; has no end mark after byte {end}.")
        if any(mark):
            raise ValueError(f"{place}: damaged at byte {end}, where a header is wanted.")


def webdataset_rows(place: str, remote: Remote, text_key: str) -> list[Values]:
    """Rows of the samples in a shard, each of adjacent files with the same name before the dot.

    Samples without audio are left out, with a warning.

    Args:
        place: path or address of the shard.
        remote: how it is read over the network.
        text_key: of the transcript in the JSON file of a sample.

    Raises:
        FileNotFoundError: there is no such shard.
        ValueError: it is damaged, a sample has several audio files or its audio isn't readable, or
            its JSON isn't; names the sample.
        OSError: the disk fails, or the network or the server in all attempts.
    """
    rows, silent = [], []
    for name, group in itertools.groupby(members(place, remote), key=lambda m: split_name(m)[0]):
        parts = {split_name(member)[1]: member for member in group}
        audio = [member for suffix, member in parts.items() if suffix.split(".")[-1] in AUDIO]
        if not audio:
            silent += [parts[suffix].name for suffix in list(parts)[:1]]
            continue
        if len(audio) > 1:
            names = ", ".join(member.name for member in audio)
            raise ValueError(f"{place}: {name} has several audio files ({names}); one is wanted.")
        values = texts_of(parts, place, text_key)
        own = audio[0]
        sample = ShardSample(own.name, place, own.start, len(own.data), data=own.data)
        row = {"audio_filepath": own.name, "duration": full_duration(sample)}
        try:
            rows.append(check_row(row | values | own.values(place)))
        except ValueError as error:
            raise ValueError(f"{sample}: {error}") from None
    if silent:
        logger.warning(
            "%s: %d samples have no file of a known ending of audio and are left out, e.g. %s.",
            place,
            len(silent),
            silent[0],
        )
    return rows


def split_name(member: Member) -> tuple[str, str]:
    """The name of a sample, and the suffix of one of its files in lower case."""
    folder, _, name = member.name.rpartition("/")
    stem, _, suffix = name.partition(".")
    return f"{folder}/{stem}", suffix.lower()


def texts_of(parts: dict[str, Member], place: str, text_key: str) -> Values:
    """Transcript, speaker and language of a sample, by its JSON and its text file.

    Raises:
        ValueError: they aren't readable; names the file.
    """
    values: Values = {}
    if "json" in parts:
        own = parts["json"]
        try:
            given = json.loads(own.data)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            raise ValueError(f"{place}/{own.name}: not a JSON object.")
        given = given | {"text": given.get(text_key)}
        values = {key: given[key] for key in TEXTS if given.get(key) is not None}
        if isinstance(values.get("speaker"), int):
            values["speaker"] = str(values["speaker"])
    if "txt" in parts:
        try:
            values["text"] = parts["txt"].data.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(f"{place}/{parts['txt'].name}: not UTF-8.") from None
    return values


class NemoRows:
    """The rows of the manifests of a tarred data set of NeMo, by shard.

    Args:
        manifests: one of all shards, or one for each.
        shards: their paths or addresses.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: a row is bad, or names no shard or one that isn't there; names the line.
    """

    def __init__(self, manifests: list[str], shards: list[str]):
        self.manifests = [Manifest(path) for path in manifests]
        numbers = [int(match[1]) if (match := NUMBER.search(place)) else -1 for place in shards]
        if len(set(numbers)) < len(shards):
            numbers = list(range(len(shards)))
        of_number = {number: shard for shard, number in enumerate(numbers)}
        paired = len(manifests) == len(shards)
        self.rows: list[list[np.ndarray]] = []  # of each manifest and shard, indices
        for which, manifest in enumerate(self.manifests):
            own = np.empty(len(manifest), dtype=np.int64)
            for i in range(len(manifest)):
                number = manifest.values(i).get("shard_id")
                if number is None and paired:
                    own[i] = which
                    continue
                if not isinstance(number, int) or number not in of_number:
                    raise ValueError(
                        f"{manifest.place(i)}: shard_id is {shown(number)}, wanted one of the "
                        f"shards {min(numbers)} to {max(numbers)} that are named."
                    )
                own[i] = of_number[number]
            order = np.argsort(own, kind="stable")
            limits = np.searchsorted(own[order], np.arange(1, len(shards)))
            self.rows.append(np.split(order, limits))

    def of_shard(self, shard: int, place: str, remote: Remote) -> list[Values]:
        """The rows of a shard, each with the place of its audio there.

        Raises:
            FileNotFoundError: there is no such shard.
            ValueError: it is damaged, or lacks the audio of a row; names the line.
            OSError: the disk fails, or the network or the server in all attempts.
        """
        own = [
            (m, int(i))
            for m, rows in zip(self.manifests, self.rows, strict=True)
            for i in rows[shard]
        ]
        wanted = [manifest.values(i) for manifest, i in own]
        names = {base_name(values["audio_filepath"]) for values in wanted}
        names |= {values["audio_filepath"] for values in wanted}
        places: dict[str, Values] = {}
        unknown = 0
        for member in members(place, remote):
            if member.name in names:
                places[member.name] = member.values(place)
            else:
                unknown += member.name.rpartition(".")[2].lower() in AUDIO
        if unknown:
            logger.warning("%s: %d audio files are in no row of the manifest.", place, unknown)
        rows = []
        for (manifest, i), values in zip(own, wanted, strict=True):
            name = values["audio_filepath"]
            found = places.get(name) or places.get(base_name(name))
            if found is None:
                raise ValueError(f"{manifest.place(i)}: {name} isn't in the shard {place}.")
            rows.append(values | found)
        return rows


def base_name(name: str) -> str:
    """The name of the file that a row of NeMo is a part of."""
    return SUB.sub("", name)


def index_shards(
    shards: list[str], manifests: list[str], out: Path, remote: Remote, text_key: str = "text"
) -> Iterator[Values]:
    """Rows of a manifest of existing shards, which are read once, with a progress bar.

    Args:
        shards: their paths or addresses.
        manifests: of a tarred data set of NeMo; none: of webdataset.
        out: of the manifest to write; shards below its folder get relative paths.
        remote: how shards are read over the network.
        text_key: of the transcript in the JSON files of webdataset.

    Raises:
        FileNotFoundError: a shard or a manifest is missing.
        ValueError: one is damaged; names the sample or the line.
        OSError: the disk fails, or the network or the server in all attempts.
    """
    nemo = NemoRows(manifests, shards) if manifests else None
    folder = out.parent.resolve()

    def rows_of(shard: int) -> list[Values]:
        place = shards[shard]
        if nemo is None:
            rows = webdataset_rows(place, remote, text_key)
        else:
            rows = nemo.of_shard(shard, place, remote)
        if not is_url(place):
            path = Path(place).resolve()
            own = path.relative_to(folder) if path.is_relative_to(folder) else path
            rows = [values | {"shard": own.as_posix()} for values in rows]
        return rows

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(rows_of, range(len(shards)))
        for rows in tqdm(found, total=len(shards), desc=out.name, unit="shard", disable=None):
            yield from rows
