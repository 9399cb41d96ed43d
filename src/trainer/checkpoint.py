"""Checkpoints: folders that are whole at any instant, and that cannot run code.

A checkpoint is a folder with `model.safetensors`, `self_test.safetensors` and `state.pt`, the
last of plain containers and tensors only.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WEIGHTS = "model.safetensors"
STATE = "state.pt"
SELF_TEST = "self_test.safetensors"


def save_checkpoint(
    folder: Path, weights: dict[str, Tensor], state: dict[str, Any], self_test: dict[str, Tensor]
) -> None:
    """Write a checkpoint in place of the one at `folder`, which stays whole until this one is."""

    def write(beside: Path) -> None:
        save_tensors(beside / WEIGHTS, weights)
        save_tensors(beside / SELF_TEST, self_test)
        torch.save(state, beside / STATE)

    replace_folder(folder, write)


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `folder`, then put it in its place.

    A kill between the two renames leaves no `folder`, but a whole `<folder>.old`, which
    `existing` finds.
    """
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    write(new)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.replace(old)
    new.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def existing(folder: Path) -> Path:
    """The folder, or what a kill in the middle of its replacement left of it.

    Raises:
        FileNotFoundError: there is no checkpoint.
    """
    for candidate in (folder, folder.with_name(folder.name + ".old")):
        if (candidate / WEIGHTS).exists():
            return candidate
    raise FileNotFoundError(f"{folder}: no checkpoint here ({WEIGHTS} is missing).")


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a safetensors file; those that share memory are written apart."""
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is cut short or no safetensors file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: truncated or no safetensors file ({error}).") from None


def read_state(folder: Path) -> dict[str, Any]:
    """The training state of a checkpoint.

    Raises:
        ValueError: the file is missing, cut short or holds more than plain containers.
    """
    path = folder / STATE
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file, so the run can't go on.") from None
    except Exception as error:  # torch raises many kinds here, none of them documented
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: truncated or no training state ({reason}).") from None


def load_weights(model: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Put weights into a model, all of them or none.

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
    """What keeps weights from fitting a model's state dict, a clause each."""
    faults = [f"{name} is missing" for name in own if name not in weights]
    faults += [f"{name} is not in the model" for name in weights if name not in own]
    faults += [
        f"{name} has shape {list(weights[name].shape)}, the model's is {list(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    return faults
