"""Checkpoints: folders that are whole at any instant, are verified when read, and can't run code.

A checkpoint is a folder with the model's weights, the training state (plain containers and tensors
only), a self-test, and the SHA-256 of each of these files. That of a sharded model has the weights
and the sharded tensors of the state in one file for each process, see `src.utils.shards`.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from src.utils.durable import cleared, sync_folder, write_durably, write_state
from src.utils.files import check_regular, explain_disk_error, read_bytes, remove_temporary_files
from src.utils.shards import NAME, Pieces, header, like, put_back, read_shards, shard_name

WEIGHTS = "model.safetensors"
STATE = "state.pt"
SELF_TEST = "self_test.safetensors"
CHECKSUMS = "checksums.json"
FILES = {WEIGHTS, STATE, SELF_TEST, CHECKSUMS}
OF_MODEL, OF_STATE = "model.", "state."  # begin the names of tensors in shards


# Writing -----------------------------------------------------------------------------------


def save_checkpoint(
    folder: Path, weights: dict[str, Tensor], state: dict[str, Any], self_test: dict[str, Tensor]
) -> None:
    """Write a checkpoint in place of the one at `folder`, which stays whole until this one is.

    Args:
        folder: where the checkpoint is found afterwards, even after a power cut.
        weights: the model's state dict.
        state: all that a resumed run needs beside the weights.
        self_test: tensors that `load_run` compares the restored model with.

    Raises:
        OSError: it could not be written; names the file and, if the disk is full, the free space.
    """
    with cleared(new_folder(folder)) as new:
        weights_digest = write_durably(new / WEIGHTS, tensors_to_bytes(weights))
        complete(new, {WEIGHTS: weights_digest}, state, self_test)
    replace_checkpoint(folder)


def save_shard(folder: Path, rank: int, pieces: Pieces) -> dict[str, str]:
    """Write the file of one process of a new checkpoint, which `finish_shards` completes.

    Args:
        folder: where the checkpoint will be found.
        rank: of the process.
        pieces: those of its tensors.

    Returns:
        The SHA-256 of the file, by its name.

    Raises:
        OSError: it could not be written; names the file and, if the disk is full, the free space.
    """
    new, name = new_folder(folder), shard_name(rank)
    with explain_disk_error(new):
        new.mkdir(exist_ok=True)
    data = tensors_to_bytes({key: piece for key, (piece, _) in pieces.items()}, header(pieces))
    return {name: write_durably(new / name, data)}


def finish_shards(
    folder: Path, digests: dict[str, str], state: dict[str, Any], self_test: dict[str, Tensor]
) -> None:
    """Complete the checkpoint whose shards were written, and put it in place of the earlier one.

    Args:
        folder: where the checkpoint is found afterwards.
        digests: SHA-256 of the files of all processes, by name.
        state: as for `save_checkpoint`, without the tensors that are in the shards.
        self_test: as for `save_checkpoint`.

    Raises:
        OSError: it could not be written.
    """
    complete(new_folder(folder), digests, state, self_test)
    replace_checkpoint(folder)


def complete(
    new: Path, digests: dict[str, str], state: dict[str, Any], self_test: dict[str, Tensor]
) -> None:
    """Write the files beside those of the weights, whose digests are given."""
    digests = {
        **digests,
        SELF_TEST: write_durably(new / SELF_TEST, tensors_to_bytes(self_test)),
        STATE: write_state(new / STATE, state),
    }
    write_durably(new / CHECKSUMS, format_checksums(digests))
    sync_folder(new)


def new_folder(folder: Path) -> Path:
    """Where a checkpoint is written before it replaces the one at `folder`."""
    return folder.with_name(folder.name + ".new")


def replace_checkpoint(folder: Path) -> None:
    """Put a checkpoint that was written whole in place of the one at `folder`."""
    new, old = new_folder(folder), folder.with_name(folder.name + ".old")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.replace(old)
    new.replace(folder)  # a kill just before this line leaves only `old`: see `find_checkpoint`
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def tensors_to_bytes(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Serialize tensors in the format of safetensors; those that share memory become separate.

    Args:
        tensors: by name.
        metadata: texts that the header of the file holds, too.
    """
    separate, storages = {}, set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)
    return safetensors.torch.save(separate, metadata)


def format_checksums(digests: dict[str, str]) -> bytes:
    """Format the digests of files, with a digest of their own that guards them."""
    own = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    content = {"files": digests, "sha256": own}
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


# Finding -----------------------------------------------------------------------------------


def find_checkpoint(folder: Path) -> Path:
    """Find the checkpoint that was saved at `folder`.

    Returns:
        `folder`, or `<folder>.old` if the process was killed while `folder` was being replaced.

    Raises:
        FileNotFoundError: there is no checkpoint; names a file that is missing.
    """
    for candidate in (folder, folder.with_name(folder.name + ".old")):
        if is_checkpoint(candidate):
            return candidate
    missing = CHECKSUMS if (folder / WEIGHTS).exists() else WEIGHTS
    raise FileNotFoundError(f"{folder}: no checkpoint here ({missing} is missing).")


def best_checkpoint(run: Path) -> Path:
    """The checkpoint `best` of a run's folder; without a monitored metric the last one is the best.

    Raises:
        FileNotFoundError: there is none, or files of it are missing.
    """
    best = run / "best"
    monitored = best.exists() or best.with_name("best.old").exists()
    return find_checkpoint(best if monitored else run / "last")


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder has weights and checksums; the state is only needed to resume."""
    has_weights = (folder / WEIGHTS).exists() or (folder / shard_name(0)).exists()
    return has_weights and (folder / CHECKSUMS).exists()


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint that hold weights."""
    return sorted(path for path in folder.iterdir() if path.name == WEIGHTS or is_shard(path))


def newest_weights(checkpoint: Path) -> Path:
    """The file with weights that was written last, of a checkpoint's folder; a file is its own."""
    if not checkpoint.is_dir():
        return checkpoint
    return max(weight_files(checkpoint), key=lambda path: path.stat().st_mtime)


def is_shard(path: Path) -> bool:
    """Whether a file has the name of one that a process of a sharded model writes."""
    return NAME.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left in a run's folder; only its next process may call this.

    `<name>.new` and `<name>.old` of checkpoints are removed, an `<name>.old` without `<name>` is
    renamed back, and temporary files of `write_beside` are removed.

    Args:
        folder: the folder that holds the checkpoints; folders below it are left alone.
    """
    for old in folder.glob("*.old"):
        name = old.with_suffix("")
        if is_checkpoint(old) and not name.exists():
            old.replace(name)
        elif is_checkpoint(name):
            remove_checkpoint(old)
    for new in folder.glob("*.new"):
        remove_checkpoint(new)
    remove_temporary_files(folder)


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint, whole or not, but no folder that holds anything else."""
    if folder.is_dir() and all(path.name in FILES or is_shard(path) for path in folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)


# Reading -----------------------------------------------------------------------------------


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of the checkpoint at `folder`.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the file is damaged.
    """
    folder = find_checkpoint(folder)
    if (folder / WEIGHTS).exists():
        return read_tensors(folder / WEIGHTS)
    verify_checkpoint(folder)
    shards = read_shards(folder, OF_MODEL)
    return {name.removeprefix(OF_MODEL): tensor for name, tensor in shards.items()}


def read_self_test(folder: Path) -> dict[str, Tensor]:
    """Read the self-test of the checkpoint at `folder`.

    Raises:
        FileNotFoundError: there is no checkpoint, or the file is missing.
        ValueError: the file is damaged.
    """
    return read_tensors(find_checkpoint(folder) / SELF_TEST)


def read_state(folder: Path) -> dict[str, Any]:
    """Read the training state of the checkpoint at `folder`.

    Raises:
        FileNotFoundError: there is no checkpoint, or the file is missing.
        ValueError: the file is damaged, or holds more than plain containers and tensors.
    """
    path = find_checkpoint(folder) / STATE
    verify(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if (path.parent / shard_name(0)).exists():
            state = put_back(state, read_shards(path.parent, OF_STATE))
        return state
    except Exception as error:  # torch raises many kinds here, none of them documented
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a training state ({reason}).") from None


def verify_checkpoint(folder: Path) -> None:
    """Compare the files of a checkpoint with their checksums.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file or the checksums are damaged.
    """
    for name in read_checksums(folder / CHECKSUMS):
        verify(folder / name)


def verify(path: Path) -> None:
    """Compare a file with its checksum, if there is one in `checksums.json` beside it.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file or the checksums are damaged, or no regular files.
    """
    checksums = path.parent / CHECKSUMS
    expected = read_checksums(checksums).get(path.name) if checksums.exists() else None
    check_regular(path)
    if expected and file_digest(path) != expected:
        raise ValueError(f"{path}: damaged, its SHA-256 is not the one in {CHECKSUMS}.")


def file_digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checksums(path: Path) -> dict[str, str]:
    """Read the digests of a checkpoint's files.

    Raises:
        ValueError: a byte of the file is not as it was written.
    """
    data = read_bytes(path)
    try:
        digests = json.loads(data)["files"]
        whole = data == format_checksums(digests)
    except (ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(f"{path}: damaged, its content is not the one that was written.")
    return digests


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; one that belongs to a checkpoint is compared with its checksum.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is damaged or not a safetensors file.
    """
    verify(path)
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated or not a safetensors file ({error}).") from None


# Loading -----------------------------------------------------------------------------------


def load_weights(model: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Load weights into a model, all of them or none.

    Args:
        model: gets the weights.
        weights: a state dict whose names and shapes must be those of the model.
        source: where the weights are from, for the message.

    Raises:
        ValueError: a name or shape doesn't fit; says how many and names the first.
    """
    own = model.state_dict()
    faults = misfits(own, weights)
    if faults:
        raise ValueError(
            f"{source}: weights of another model, {len(faults)} entries don't fit; "
            f"the first: {faults[0]}."
        )
    model.load_state_dict({name: like(weights[name], value) for name, value in own.items()})


def misfits(own: dict[str, Tensor], weights: dict[str, Tensor]) -> list[str]:
    """List what keeps weights from fitting a model's state dict, a clause each."""
    faults = [f"{name} is missing" for name in own if name not in weights]
    faults += [f"{name} is not in the model" for name in weights if name not in own]
    faults += [
        f"{name} has shape {list(weights[name].shape)}, the model's is {list(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    return faults
