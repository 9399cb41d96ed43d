"""NVIDIA NeMo's .nemo files: a tar of a YAML config and a torch checkpoint.

Nothing is unpacked to the disk, and weights are read as tensors only, so a hostile file can
neither write nor run anything.
"""

import io
import lzma
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import torch
import yaml
from torch import Tensor

from src.utils.files import write_beside

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"


def read_archive(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the flat state dict of a .nemo file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, no .nemo file, has a member that would lie outside of the
            archive, or its weights hold more than tensors.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    members = read_members(path)
    for name in (CONFIG, WEIGHTS):
        if name not in members:
            raise ValueError(f"{path}: no .nemo file, {name} is missing.")
    return parse_config(members[CONFIG], path), parse_weights(members[WEIGHTS], path)


def read_members(path: Path) -> dict[str, bytes]:
    """The bytes of the two members that matter; all are looked at."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                check_member(member, path)
                name = str(PurePosixPath(member.name))
                if name in (CONFIG, WEIGHTS) and (file := archive.extractfile(member)):
                    found[name] = file.read()
                    if len(found[name]) != member.size:
                        raise tarfile.ReadError("unexpected end of data")
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError):
        raise ValueError(f"{path}: truncated or no .nemo file.") from None
    return found


def check_member(member: tarfile.TarInfo, path: Path) -> None:
    """See that a member is a plain file or folder inside the archive.

    Raises:
        ValueError: it isn't; names it.
    """
    place = PurePosixPath(member.name)
    if place.is_absolute() or ".." in place.parts:
        raise ValueError(f"{path}: refused, its member '{member.name}' lies outside of it.")
    if not (member.isfile() or member.isdir()):
        raise ValueError(f"{path}: refused, its member '{member.name}' is no plain file.")


def parse_config(text: bytes, path: Path) -> dict[str, Any]:
    """The YAML of the model."""
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"{path}: {CONFIG} is no plain YAML.") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: {CONFIG} is no mapping.")
    return config


def parse_weights(data: bytes, path: Path) -> dict[str, Tensor]:
    """The checkpoint, which must be a flat dict of tensors."""
    return as_tensors(read_torch(io.BytesIO(data), path, WEIGHTS), path, WEIGHTS)


def read_torch(source: BinaryIO | Path, path: Path, name: str) -> Any:
    """What torch saved, read without running anything.

    Raises:
        ValueError: it isn't such a file, or holds more than tensors and plain containers.
    """
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except Exception:  # torch raises many kinds here, and advises to run the file
        raise ValueError(
            f"{path}: refused, {name} is damaged or holds more than plain tensors."
        ) from None


def as_tensors(weights: Any, path: Path, name: str) -> dict[str, Tensor]:
    """The same, if it is a flat dict of tensors.

    Raises:
        ValueError: it isn't.
    """
    flat = isinstance(weights, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    )
    if not flat:
        raise ValueError(f"{path}: {name} is no flat dict of tensors.")
    return weights


def write_archive(path: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write a .nemo file, beside and then renamed."""
    checkpoint = io.BytesIO()
    torch.save(weights, checkpoint)
    text = yaml.safe_dump(config, sort_keys=False).encode()
    with write_beside(path) as beside, tarfile.open(beside, "w:") as archive:
        for name, data in ((CONFIG, text), (WEIGHTS, checkpoint.getvalue())):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
