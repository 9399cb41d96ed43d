"""Checkpoints: folders that are whole at any instant, are verified when read, and can't run code.

A checkpoint is a folder with the model's weights, the training state (plain containers and tensors
only), a self-test, and the SHA-256 of each of these files.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from src.utils.files import check_regular, explain_disk_error, read_bytes, remove_temporary_files

WEIGHTS = "model.safetensors"
STATE = "state.pt"
SELF_TEST = "self_test.safetensors"
CHECKSUMS = "checksums.json"
FILES = {WEIGHTS, STATE, SELF_TEST, CHECKSUMS}


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
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    with cleared(new):
        digests = {
            WEIGHTS: write_durably(new / WEIGHTS, tensors_to_bytes(weights)),
            SELF_TEST: write_durably(new / SELF_TEST, tensors_to_bytes(self_test)),
            STATE: write_state(new / STATE, state),
        }
        write_durably(new / CHECKSUMS, format_checksums(digests))
        sync_folder(new)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.replace(old)
    new.replace(folder)  # a kill just before this line leaves only `old`: see `find_checkpoint`
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def cleared(folder: Path) -> Iterator[None]:
    """An empty folder to write to in the block, removed if the block fails."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with explain_disk_error(folder):
            folder.mkdir()
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_durably(path: Path, data: bytes) -> str:
    """Write a file that a power cut can't empty any more.

    Returns:
        The SHA-256 of the data.

    Raises:
        OSError: the file could not be written.
    """
    with explain_disk_error(path, len(data)), path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def write_state(path: Path, state: dict[str, Any]) -> str:
    """Write a training state by `torch.save`, as durably.

    Returns:
        The SHA-256 of the file.

    Raises:
        OSError: the file could not be written.
    """
    with path.open("wb", buffering=0) as file:
        output = HashingFile(file)
        torch.save(state, output)  # type: ignore[arg-type]
        with explain_disk_error(path, output.size):
            output.raise_error()
            os.fsync(file.fileno())
    return output.sha256.hexdigest()


class HashingFile(io.RawIOBase):
    """A file for `torch.save` to write to, which hashes what is written to an unbuffered file.

    An error doesn't interrupt `torch.save`, which would hide it behind an error of its own: it is
    kept for `raise_error`.
    """

    def __init__(self, file: io.FileIO):
        super().__init__()
        self.file = file
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write data, unless an earlier write failed."""
        self.sha256.update(data)
        self.size += len(data)
        if self.error is None:
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[self.file.write(rest) :]
            except OSError as error:
                self.error = error
        return len(data)

    def raise_error(self) -> None:
        """Raise the first error of `write`, if there was one."""
        if self.error is not None:
            raise self.error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse this
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    return (folder / WEIGHTS).exists() and (folder / CHECKSUMS).exists()


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
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= FILES:
        shutil.rmtree(folder, ignore_errors=True)


# Reading -----------------------------------------------------------------------------------


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of the checkpoint at `folder`.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the file is damaged.
    """
    return read_tensors(find_checkpoint(folder) / WEIGHTS)


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
        return torch.load(path, map_location="cpu", weights_only=True)
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
    model.load_state_dict(weights)


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
