"""Sharded checkpoints: the pieces of tensors that each process of a sharded model holds.

Each process writes a file in the safetensors format of torch.distributed.checkpoint, whose header
says where each piece lies in its tensor. Reading them needs no process group.
"""

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NAME = re.compile(r"shard-\d{5}\.safetensors")
HEADER = "DCP_SHARDING_INFO"  # key of torch.distributed.checkpoint in the header of a file
PLACE = "shard"  # stands in a training state for a tensor that is in the shards

Pieces = dict[str, tuple[Tensor, list[int]]]  # name -> piece, offset in the tensor on each axis


def shard_name(rank: int) -> str:
    """Name of the file of a process."""
    return f"shard-{rank:05d}.safetensors"


def is_sharded(value: Any) -> bool:
    """Whether a value is a tensor of which each process holds a piece (torch's DTensor)."""
    return hasattr(value, "to_local")


def whole(value: Tensor) -> Tensor:
    """A tensor without shards; of a sharded one, all processes must call this."""
    return value.full_tensor() if is_sharded(value) else value  # type: ignore[attr-defined]


def like(value: Tensor, own: Tensor) -> Tensor:
    """A whole tensor, sharded as another one of its shape is, if that is."""
    if not is_sharded(own) or is_sharded(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(own.device)
    mesh, placements = own.device_mesh, own.placements  # type: ignore[attr-defined]
    return distribute_tensor(value, mesh, placements, src_data_rank=None)


def take_shards(value: Any, name: str, pieces: Pieces) -> Any:
    """Take the sharded tensors out of nested containers; all processes must call this.

    Args:
        value: dicts, lists and tuples with tensors.
        name: of it; those of the tensors begin with it.
        pieces: gets the pieces of this process.

    Returns:
        A copy of the containers with `{"shard": name}` in place of each sharded tensor.
    """
    if isinstance(value, Mapping):
        return {key: take_shards(one, f"{name}.{key}", pieces) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(take_shards(one, f"{name}.{i}", pieces) for i, one in enumerate(value))
    if not is_sharded(value):
        return value
    if [str(placement) for placement in value.placements] != ["S(0)"]:
        return value.full_tensor()
    size, rank = -(-value.shape[0] // value.device_mesh.size()), value.device_mesh.get_local_rank()
    piece = value.detach().to_local()
    if piece.numel():
        pieces[name] = (piece, [size * rank] + [0] * (value.ndim - 1))
    return {PLACE: name}


def put_back(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `take_shards` with the tensors of `read_shards`.

    Raises:
        ValueError: one is missing.
    """
    if isinstance(value, Mapping):
        if value.keys() == {PLACE}:
            if value[PLACE] not in tensors:
                raise ValueError(f"'{value[PLACE]}' is in none of the shards")
            return tensors[value[PLACE]]
        return {key: put_back(one, tensors) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(put_back(one, tensors) for one in value)
    return value


def header(pieces: Pieces) -> dict[str, str]:
    """What the header of a file says about the places of its pieces."""
    return {HEADER: json.dumps({name: {"saved_offsets": at} for name, (_, at) in pieces.items()})}


def read_shards(folder: Path, prefix: str) -> dict[str, Tensor]:
    """Put the tensors of a sharded checkpoint together.

    Args:
        folder: with the files of all processes.
        prefix: of the names of the tensors to read.

    Returns:
        Name -> whole tensor, in the order of the files.

    Raises:
        ValueError: the files are damaged, or one is missing.
    """
    from torch.distributed import checkpoint  # takes a second

    try:
        reader = checkpoint.HuggingFaceStorageReader(str(folder))
        found = reader.read_metadata().state_dict_metadata
        chosen = {name: one for name, one in found.items() if name.startswith(prefix)}
        for name, one in chosen.items():
            if sum(chunk.sizes.numel() for chunk in one.chunks) != one.size.numel():  # type: ignore
                raise ValueError(f"pieces of {name} are missing")
        tensors = {
            name: torch.empty(one.size, dtype=one.properties.dtype)  # type: ignore[union-attr]
            for name, one in chosen.items()
        }
        with warnings.catch_warnings():  # that there is no process group
            warnings.simplefilter("ignore")
            checkpoint.load(tensors, storage_reader=reader, no_dist=True)
    except Exception as error:  # of many kinds, none of them documented
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{folder}: damaged shards ({reason}).") from None
    return tensors
