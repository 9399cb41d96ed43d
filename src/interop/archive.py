"""NVIDIA NeMo's .nemo files: a tar archive, plain or gzipped, of a YAML config and torch weights.

Files are not trusted: nothing is extracted to disk, weights are loaded as tensors only, and
the sizes of members are limited, so that a file can neither execute code nor exhaust the memory.
"""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import torch
import yaml
from torch import Tensor

from src.utils.files import write_beside

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"

MAX_MEMBERS = 1000
MAX_CONFIG = 2**20  # bytes of the config
MAX_ARTIFACT = 2**25  # bytes of a tokenizer
MAX_RATIO = 10  # unpacked bytes for each byte of the file; weights hardly compress
MIN_UNPACKED = 16 * 2**20  # unpacked bytes that a file of any size may have
CHUNK = 2**20  # bytes read at once


class RefusedError(ValueError):
    """A member that no .nemo file has, or that is larger than allowed."""


class LimitedReader:
    """Seekable binary stream that raises an error where more than a limit would be read.

    tarfile reads headers of any declared size in one piece, and skips members by seeking, for which
    gzip unpacks them.

    Args:
        stream: the stream to read.
        limit: bytes from its start that may be read or skipped.
    """

    def __init__(self, stream: BinaryIO, limit: int):
        self.stream, self.limit = stream, limit

    def check(self, end: int) -> None:
        """Raise an error if a position lies beyond the limit."""
        if end > self.limit:
            raise RefusedError(f"unpacks to more than {self.limit} bytes")

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes."""
        if not 0 <= size <= CHUNK:
            raise RefusedError(f"has a header of {size} bytes; at most {CHUNK}")
        self.check(self.stream.tell() + size)
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        """Move to a position from the start."""
        self.check(position)
        return self.stream.seek(position)

    def tell(self) -> int:
        """Position from the start."""
        return self.stream.tell()


def read_artifact(path: Path, name: str) -> bytes:
    """Read another file of a .nemo archive, such as a tokenizer.

    Args:
        path: of the archive.
        name: of the member, as the config has it after `nemo:`.

    Raises:
        FileNotFoundError: there is no such archive.
        ValueError: it is damaged or refused, or has no such member.
    """
    members = checked_members(path, (name,), MAX_ARTIFACT)
    if name not in members:
        raise ValueError(f"{path}: {name} is missing in the archive.")
    return members[name].getvalue()


def read_model_config(path: Path) -> dict[str, Any]:
    """Read the config of a .nemo file, without its weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, refused or not a .nemo file.
    """
    members = checked_members(path, (CONFIG,))
    if CONFIG not in members:
        raise ValueError(f"{path}: not a .nemo file, {CONFIG} is missing.")
    return parse_config(members[CONFIG].getvalue(), path)


def read_archive(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the config and the state dict of a .nemo file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, not a .nemo file, holds something else than plain files inside
            of the archive, unpacks to more than is allowed, or its weights are not a dict of
            tensors.
    """
    members = checked_members(path, (CONFIG, WEIGHTS))
    for name in (CONFIG, WEIGHTS):
        if name not in members:
            raise ValueError(f"{path}: not a .nemo file, {name} is missing.")
    return parse_config(members[CONFIG].getvalue(), path), parse_weights(members[WEIGHTS], path)


def checked_members(
    path: Path, names: Sequence[str], largest: int | None = None
) -> dict[str, io.BytesIO]:
    """Read some members of an archive, and check all of them.

    Args:
        path: of the archive.
        names: of the members to be read.
        largest: bytes that one of these may have; None: as many as the archive may.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the archive is damaged, or a member is refused.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    if not path.is_file():
        raise ValueError(f"{path}: not a regular file.")
    try:
        with path.open("rb") as file:
            limit = max(MIN_UNPACKED, MAX_RATIO * path.stat().st_size)
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = gzip.GzipFile(fileobj=file) if zipped else file
            reader = cast(BinaryIO, LimitedReader(cast(BinaryIO, stream), limit))
            with tarfile.open(fileobj=reader, mode="r:") as archive:
                return select_members(archive, names, limit, largest or limit)
    except RefusedError as error:
        raise ValueError(f"{path}: refused, {error}.") from None
    except (tarfile.TarError, EOFError, OSError, ValueError, RecursionError, zlib.error):
        raise ValueError(f"{path}: truncated or not a .nemo file.") from None


def select_members(
    archive: tarfile.TarFile, wanted: Sequence[str], limit: int, largest: int
) -> dict[str, io.BytesIO]:
    """Contents of the wanted members, by name.

    Args:
        archive: opened.
        wanted: names of members.
        limit: bytes that any member may have.
        largest: bytes that a wanted one may have.

    Raises:
        RefusedError: there are too many members, two of the same name, or one that is refused.
    """
    contents: dict[str, io.BytesIO] = {}
    names: set[str] = set()
    for number, member in enumerate(archive, start=1):
        if number > MAX_MEMBERS:
            raise RefusedError(f"has more than {MAX_MEMBERS} members")
        name = str(PurePosixPath(member.name))
        most = MAX_CONFIG if name == CONFIG else largest if name in wanted else limit
        check_member(member, most)
        if name in names:
            raise RefusedError(f"has two members '{name}'")
        names.add(name)
        if name in wanted and member.isfile():
            contents[name] = read_member(archive, member)
    return contents


def check_member(member: tarfile.TarInfo, limit: int) -> None:
    """Check that a member is a plain file or folder inside of the archive, and not too large.

    Raises:
        RefusedError: it is not; names the member.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise RefusedError(f"its member '{member.name}' lies outside of the archive")
    if member.issparse() or not (member.isfile() or member.isdir()):
        raise RefusedError(f"its member '{member.name}' is not a plain file")
    if not 0 <= member.size <= limit:
        raise RefusedError(
            f"its member '{member.name}' has {member.size} bytes; at most {limit} are read"
        )


def read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> io.BytesIO:
    """Read a plain file in chunks.

    Raises:
        tarfile.ReadError: the archive ends before the file.
    """
    file, content = archive.extractfile(member), io.BytesIO()
    while file is not None and (chunk := file.read(CHUNK)):
        content.write(chunk)
    if content.tell() != member.size:
        raise tarfile.ReadError("unexpected end of data")
    content.seek(0)
    return content


class PlainLoader(yaml.SafeLoader):
    """YAML loader without aliases, with which a short text can describe a huge object."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose the next node, which must not be an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


class PlainDumper(yaml.SafeDumper):
    """YAML dumper that repeats what a config holds twice, instead of writing aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Whether to write an object again."""
        return True


def parse_config(text: bytes, path: Path) -> dict[str, Any]:
    """Parse the YAML config of a model.

    Raises:
        ValueError: it is not YAML of plain values, or not a mapping.
    """
    try:
        config = yaml.load(text, PlainLoader)  # a SafeLoader
    except Exception:  # beside YAMLError those of int(), float() and dates for their values
        raise ValueError(f"{path}: {CONFIG} is not plain YAML.") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: {CONFIG} is not a mapping.")
    return config


def parse_weights(data: BinaryIO, path: Path) -> dict[str, Tensor]:
    """Load the checkpoint of a .nemo file.

    Raises:
        ValueError: it is not a dict of tensors.
    """
    return as_tensors(read_torch(data, path, WEIGHTS), path, WEIGHTS)


def read_torch(source: BinaryIO | Path, path: Path, name: str) -> Any:
    """Load a file written by `torch.save` without executing code.

    Args:
        source: the file, or its content.
        path: of the file, for messages.
        name: what to call the content in messages.

    Raises:
        ValueError: it is not such a file, holds more than tensors and plain containers, or is
            compressed, which torch.save never does and with which it could have any size.
    """
    try:
        if is_compressed(source):
            raise RefusedError(f"{path}: refused, {name} is compressed.")
        return torch.load(source, map_location="cpu", weights_only=True)
    except RefusedError:
        raise
    except (
        Exception
    ):  # torch raises errors of many types here, some with advice to execute the file
        raise ValueError(
            f"{path}: refused, {name} is damaged or holds more than plain tensors."
        ) from None


def is_compressed(source: BinaryIO | Path) -> bool:
    """Whether a zip archive has compressed members, or more bytes in its members than in itself."""
    zipped = zipfile.is_zipfile(source)
    if zipped:
        with zipfile.ZipFile(source) as archive:
            members, size = archive.infolist(), archive.start_dir
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        zipped = not stored or sum(member.file_size for member in members) > size
    if not isinstance(source, Path):
        source.seek(0)
    return zipped


def as_tensors(weights: Any, path: Path, name: str) -> dict[str, Tensor]:
    """Return `weights` if it is a dict of tensors by name.

    Args:
        weights: what a file holds.
        path: of the file, for messages.
        name: what to call the content in messages.

    Raises:
        ValueError: it is something else.
    """
    flat = isinstance(weights, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    )
    if not flat:
        raise ValueError(f"{path}: {name} is not a dict of tensors.")
    for key, value in weights.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ValueError(f"{path}: {name}: {key} is not a dense tensor.")
    return weights


def write_archive(
    path: Path,
    config: dict[str, Any],
    weights: dict[str, Tensor],
    artifacts: dict[str, bytes] | None = None,
) -> None:
    """Write a .nemo file beside `path`, then rename it to `path`.

    Args:
        path: of the file.
        config: of the model, by NeMo's names.
        weights: by NeMo's names.
        artifacts: further files by name, which the config names as `nemo:<name>`.
    """
    checkpoint = io.BytesIO()
    torch.save(weights, checkpoint)
    text = yaml.dump(config, Dumper=PlainDumper, sort_keys=False).encode()  # a SafeDumper
    with write_beside(path) as beside, tarfile.open(beside, "w:") as archive:
        members = {CONFIG: text, WEIGHTS: checkpoint.getvalue()} | (artifacts or {})
        for name, data in members.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
