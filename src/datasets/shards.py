"""Writing shards: tar files with the audio of a manifest, as webdataset and NeMo read them."""

import hashlib
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import torch
from tqdm.auto import tqdm

from src.datasets.manifest import Manifest, Row, safe_name, to_line
from src.utils.audio_files import encode_audio, open_audio
from src.utils.byte_ranges import is_url, scheme_of
from src.utils.files import read_bytes, write_beside
from src.utils.options import check_choice, check_number, refuse
from src.utils.resampling import resample
from src.utils.shard_sample import SHARD_KEYS, AudioPath

Values = dict[str, Any]

MANIFEST = "manifest.jsonl"
UNFINISHED = "unfinished.json"
FORMATS = (None, "flac", "opus")
SUBTYPES = {"PCM_U8": "PCM_S8", "PCM_S8": "PCM_S8", "PCM_16": "PCM_16", "PCM_24": "PCM_24"}
FLOATS = ("PCM_32", "FLOAT", "DOUBLE")  # which FLAC holds with 24 bits
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # Hz
SAME = 0.05  # seconds; a row that is shorter than its file by more is cut out of it
CPUS = os.cpu_count() or 1
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class ShardOptions:
    """What shards are made of.

    Args:
        format: of the audio, `flac` or `opus`; None: as it is. What is cut out of a longer
            recording keeps its format if that is WAV or FLAC, and becomes FLAC otherwise.
        megabytes: size of a shard at most, unless a single sample is larger.
        with_json: whether a JSON file with the values of the row lies beside each audio file.
        address: of the folder that the shards will be copied to, as s3://bucket/folder; None: they
            stay beside their manifest.

    Raises:
        ValueError: a value is not allowed; names the option.
    """

    format: str | None = None
    megabytes: float = 500.0
    with_json: bool = True
    address: str | None = None

    def __post_init__(self) -> None:
        check_choice("--format", self.format, FORMATS)
        check_number("--megabytes", self.megabytes, high=1e6)
        if self.address is not None and not is_url(self.address):
            refuse("--address", self.address, "an address as s3://bucket/folder")
        if self.address is not None:
            scheme_of(self.address)


@dataclass(frozen=True)
class Sample:
    """What a row becomes in a shard.

    Attributes:
        values: of the row; `audio_filepath` is the name of the audio file in the shard.
        audio: the audio file.
    """

    values: Values
    audio: bytes


def write_shards(manifest: Manifest, folder: Path, options: ShardOptions) -> int:
    """Write the audio of a manifest to `audio_0.tar`, `audio_1.tar`, ... and their manifest.

    A shard, and the manifest of all, is whole or absent. What an interrupted call has finished is
    kept by the next one with the same options, if the rows of these shards are still the same.
    Shows a progress bar.

    Args:
        manifest: of the audio.
        folder: to write to.
        options: of the shards.

    Returns:
        The number of shards.

    Raises:
        FileExistsError: the folder holds other things.
        FileNotFoundError: an audio file is missing; names the line.
        ValueError: one isn't readable, or a row has `sources`; names the line.
    """
    if not len(manifest):
        raise ValueError(f"{manifest.path}: no rows.")
    done = start_or_resume(folder, manifest, options)
    first = done[-1] if done else 0
    known = digest_of(manifest, done)
    bar = tqdm(total=len(manifest), initial=first, desc=folder.name, unit="row", disable=None)
    with bar, ThreadPoolExecutor(CPUS) as pool:
        samples = Ahead(encoded(manifest, first, options, pool))
        while samples.next is not None:
            shard = len(done)
            last = first + write_shard(folder, shard, samples, options, bar)
            known = digest(manifest, first, last, known)
            done.append(last)
            write_state(folder, done, known, options)
            first = last
    with write_beside(folder / MANIFEST) as beside, beside.open("wb") as out:
        for shard in range(len(done)):
            with part(folder, shard).open("rb") as file:
                shutil.copyfileobj(file, out)
    for path in [folder / UNFINISHED, *(part(folder, shard) for shard in range(len(done)))]:
        path.unlink()
    return len(done)


def digest(manifest: Manifest, first: int, last: int, known: str = "") -> str:
    """A checksum of some rows of a manifest, and of those before them by their checksum."""
    starts, source = manifest.starts, manifest.source
    start, end = (int(starts[i]) if i < len(starts) else source.size for i in (first, last))
    rows = source.read(start, end)
    return hashlib.blake2b(known.encode() + rows, digest_size=16).hexdigest()


def start_or_resume(folder: Path, manifest: Manifest, options: ShardOptions) -> list[int]:
    """For each shard that is finished, how many rows it and those before it hold.

    Raises:
        FileExistsError: the folder holds other things.
        ValueError: it holds shards of another manifest, or made with other options.
    """
    unfinished = folder / UNFINISHED
    if (folder / MANIFEST).exists() and not unfinished.exists():  # or it was about to be removed
        raise FileExistsError(f"{folder / MANIFEST}: exists; choose another folder.")
    if not unfinished.exists():
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder}: exists and isn't empty; choose another folder.")
        write_state(folder, [], "", options)
        return []
    try:
        state = json.loads(read_bytes(unfinished))
        done, rows, known = state["done"], state["rows"], state["options"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{unfinished}: damaged; remove {folder}.") from None
    if done and (known != vars(options) or rows != digest_of(manifest, done)):
        raise ValueError(
            f"{folder}: holds unfinished shards of another manifest or with other options; "
            "remove it, or choose another folder."
        )
    return done


def digest_of(manifest: Manifest, done: list[int]) -> str:
    """The checksum of the rows in finished shards; empty if there aren't any, or fewer rows."""
    known = ""
    if done and done[-1] > len(manifest):
        return known
    for first, last in pairwise([0, *done]):
        known = digest(manifest, first, last, known)
    return known


def write_state(folder: Path, done: list[int], rows: str, options: ShardOptions) -> None:
    """Write what an interrupted call is continued by."""
    with write_beside(folder / UNFINISHED) as beside:
        state = {"done": done, "rows": rows, "options": vars(options)}
        beside.write_text(json.dumps(state), encoding="utf-8")


def part(folder: Path, shard: int) -> Path:
    """The file with the rows of a finished shard, until all are finished."""
    return folder / f"unfinished_{shard}.jsonl"


class Ahead:
    """An iterator that shows its next item.

    Args:
        samples: the iterator.

    Attributes:
        next: the next item; None at the end.
    """

    def __init__(self, samples: Iterator[Sample]):
        self.samples = samples
        self.next = next(samples, None)

    def take(self) -> None:
        """Go on to the item after the next one."""
        self.next = next(self.samples, None)


def write_shard(folder: Path, shard: int, samples: Ahead, options: ShardOptions, bar: tqdm) -> int:
    """Write the next samples to a shard and their rows beside it; returns how many they are."""
    name = f"audio_{shard}.tar"
    place = name if options.address is None else f"{options.address.rstrip('/')}/{name}"
    rows: list[Values] = []
    with write_beside(folder / name) as beside, beside.open("wb") as file:
        while samples.next is not None:
            audio, values = samples.next.audio, samples.next.values
            members = {values["audio_filepath"]: audio}
            if options.with_json:
                beside_it = Path(values["audio_filepath"]).stem + ".json"
                members[beside_it] = to_line(values).encode()
            size = sum(len(data) + 2 * BLOCK for data in members.values())
            if rows and file.tell() + size > options.megabytes * 1e6:
                break
            starts = [write_member(file, *member) for member in members.items()]
            own = (place, starts[0], len(audio), zlib.crc32(audio))
            rows.append(values | {"shard_id": shard} | dict(zip(SHARD_KEYS, own, strict=True)))
            samples.take()
            bar.update()
        file.write(bytes(2 * BLOCK))  # the end mark
    with write_beside(part(folder, shard)) as beside, beside.open("w", encoding="utf-8") as text:
        text.writelines(map(to_line, rows))
    return len(rows)


def write_member(file: BinaryIO, name: str, data: bytes) -> int:
    """Append a file to a tar file; returns where its first byte lies."""
    member = tarfile.TarInfo(name)  # time, user and group are 0, so equal input gives equal shards
    member.size = len(data)
    file.write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
    start = file.tell()
    file.write(data)
    file.write(bytes(-len(data) % BLOCK))
    return start


def encoded(
    manifest: Manifest, first: int, options: ShardOptions, pool: ThreadPoolExecutor
) -> Iterator[Sample]:
    """The samples of the rows from one on, some of which are encoded ahead."""

    def sample(index: int) -> Sample:
        try:
            return make_sample(manifest, index, options.format)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"{manifest.place(index)}: {error}") from None

    indices = iter(range(first, len(manifest)))
    while rows := list(islice(indices, 2 * CPUS)):
        yield from pool.map(sample, rows)


def make_sample(manifest: Manifest, index: int, format: str | None) -> Sample:
    """The sample of a row.

    Args:
        manifest: of the row.
        index: of the row.
        format: of the audio; None: as it is.

    Raises:
        FileNotFoundError: the audio file is missing.
        ValueError: it isn't readable, ends too early, or the row has `sources`.
    """
    row, values = manifest[index], manifest.values(index)
    if values.get("sources") is not None:
        raise ValueError("has `sources`, which shards don't hold; wanted a manifest of utterances.")
    audio, suffix, seconds = audio_of(row, format)
    stem = safe_name(row.audio_filepath.name)
    # webdataset takes what is before the first dot for the name.
    if "." in stem or manifest.repeated[index]:
        stem = f"{stem.replace('.', '_')}@{manifest.lines[index]}"
    kept = {k: v for k, v in values.items() if k not in (*SHARD_KEYS, "shard_id", "offset")}
    own: Values = {"audio_filepath": f"{stem}{suffix}"}
    if row.duration - seconds > SAME:  # as of an MP3 whose header tells too much
        own |= {"duration": seconds}
    return Sample(kept | own, audio)


def audio_of(row: Row, format: str | None) -> tuple[bytes, str, float]:
    """The audio file that a row gets, the suffix of its name, and the seconds that it lasts.

    Raises:
        FileNotFoundError: its audio file is missing.
        ValueError: that isn't readable, or ends too early.
    """
    path = row.audio_filepath
    with open_audio(path) as file:
        seconds, kind = file.frames / file.samplerate, file.format.lower()
        has_format = format in (None, kind, file.subtype.lower())
    suffix = path.suffix.lower() or f".{kind}"
    missing = row.offset + row.duration - seconds
    if missing > 2 * SAME and kind != "mp3":  # whose header may only estimate it
        raise ValueError(f"{path}: lasts {seconds:.2f} s, {missing:.2f} s less than the row.")
    whole = row.offset == 0 and abs(missing) <= SAME
    if has_format and whole:
        return path.read_bytes(), suffix, row.duration
    return encode(path, None if whole else (row.offset, row.duration), format)


def encode(
    path: AudioPath, span: tuple[float, float] | None, to: str | None
) -> tuple[bytes, str, float]:
    """A part of an audio file in another format, the suffix of that, and the seconds in it.

    PCM of up to 24 bits stays what it is in WAV and FLAC.

    Args:
        path: of the file.
        span: offset and duration in seconds; None: all of it.
        to: `flac` or `opus`; None: the format of the file if it is WAV or FLAC, else FLAC.

    Raises:
        ValueError: there are no samples, or the format doesn't have so many channels.
    """
    with open_audio(path) as file:
        rate, subtype, kind = file.samplerate, file.subtype, file.format
        exact = subtype in SUBTYPES or subtype == "PCM_32"
        offset, wanted = span or (0.0, file.frames / rate)
        file.seek(min(round(offset * rate), file.frames))
        samples = file.read(
            round(wanted * rate) if span else -1,
            dtype="float32" if to == "opus" or not exact else "int32",
            always_2d=True,
        )
    if not len(samples):
        raise ValueError(f"{path}: no samples from second {offset:g} on.")
    seconds = len(samples) / rate
    if to == "opus":
        own = next((one for one in OPUS_RATES if one >= rate), OPUS_RATES[-1])
        channels = torch.from_numpy(samples.T)
        if own != rate:
            channels = torch.stack([resample(channel, rate, own) for channel in channels])
        return encode_audio(channels.T.numpy(), own, "OGG", "OPUS"), ".opus", seconds
    if to is None and kind in ("WAV", "WAVEX") and (exact or subtype in FLOATS):
        return encode_audio(samples, rate, "WAV", subtype), ".wav", seconds
    bits = SUBTYPES.get(subtype, "PCM_24" if subtype in FLOATS else "PCM_16")
    return encode_audio(samples, rate, "FLAC", bits), ".flac", seconds
