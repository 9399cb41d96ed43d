"""Weights of ClearerVoice-Studio's MossFormer2 separation, in and out."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.interop.archive import as_tensors, read_torch
from src.interop.naming import fill, inverted, replaced
from src.models.mossformer2 import MossFormer2
from src.utils.files import write_beside

# Our names and theirs, piece by piece, in the order in which they are looked for.
CONV_MODULE = {"norm.scale": "mdl.0.g", "norm": "mdl.0", "linear": "mdl.1"}
CONV_MODULE |= {"weight": "mdl.3.sequential.1.conv.weight"}
ATTENTION = {
    "hidden": "to_hidden",
    "key": "to_qk",
    "project": "to_out",
    "factor": "qk_offset_scale.gamma",
    "offset": "qk_offset_scale.beta",
}
MEMORY = {
    "narrow": "conv1.0",
    "slope": "conv1.1.weight",
    "norm_in": "norm1",
    "norm_out": "norm2",
    "content": "gated_fsmn.to_u",
    "gate": "gated_fsmn.to_v",
    "memory.expand": "gated_fsmn.fsmn.linear",
    "memory.project": "gated_fsmn.fsmn.project",
    "memory.first.weight": "gated_fsmn.fsmn.conv.conv1.weight",
    "memory.first.norm": "gated_fsmn.fsmn.conv.norm1",
    "memory.first.slope": "gated_fsmn.fsmn.conv.prelu1.weight",
    "memory.second.weight": "gated_fsmn.fsmn.conv.conv2.weight",
    "memory.second.norm": "gated_fsmn.fsmn.conv.norm2",
    "memory.second.slope": "gated_fsmn.fsmn.conv.prelu2.weight",
    "widen": "conv2",
}
WHOLE = {
    "encoder": "enc.conv1d",
    "decoder": "dec",
    "mask_net.norm": "mask_net.norm",
    "mask_net.enter": "mask_net.conv1d_encoder",
    "mask_net.position_scale": "mask_net.pos_enc.scale",
    "mask_net.frame_norm": "mask_net.mdl.intra_mdl.norm",
    "mask_net.item_norm": "mask_net.mdl.intra_norm",
    "mask_net.slope": "mask_net.prelu.weight",
    "mask_net.split": "mask_net.conv1d_out",
    "mask_net.value": "mask_net.output.0",
    "mask_net.gate": "mask_net.output_gate.0",
    "mask_net.leave": "mask_net.conv1_decoder",
}
STACK = "mask_net.mdl.intra_mdl.mossformerM"
BLOCK = re.compile(r"mask_net\.blocks\.(\d+)\.(attention|memory)\.(.+)")
THEIR_BLOCK = re.compile(re.escape(STACK) + r"\.(layers|fsmn)\.(\d+)\.(.+)")
FREQUENCIES = "mask_net.frequencies"  # listed there under every layer
INV_FREQ = "mask_net.pos_enc.inv_freq"  # follows from the width; here it is no weight
CONSTANTS = re.compile(rf"{re.escape(INV_FREQ)}|.*\.rotary_pos_emb\.freqs")
# Linear maps here, convolutions of one frame there; and memories with an axis more.
ONE_FRAME = re.compile(r"mask_net\.(enter|split|value|gate|leave)\.weight")
ONE_FRAME_BLOCK = re.compile(r".*\.memory\.(narrow|widen|memory\.(first|second))\.weight")


def load_clearervoice(path: str | Path) -> MossFormer2:
    """The model that the shapes of a checkpoint describe, with its weights.

    Reads what ClearerVoice's trainer saves ({model, optimizer, ...}) and bare state dicts, with or
    without DistributedDataParallel's `module.` before the names. Strict: where their loader leaves
    what doesn't fit at random values, this raises. The sample rate is in no such file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, holds more than tensors and plain containers, is no
            MossFormer2, or a weight is missing, unexpected or of another shape.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    content = read_torch(path, path, "it")
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    named = as_tensors(content, path, "it")
    weights = {name.removeprefix("module."): value for name, value in named.items()}
    options = described(weights, path)
    try:
        model = MossFormer2(**options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    check_names(weights, to_clearervoice(model.state_dict()), path)
    if len(weights) < len(named):
        raise ValueError(f"{path}: some weights are there with `module.` and without.")
    found = from_clearervoice(weights)
    found[FREQUENCIES] = model.mask_net.frequencies
    fill(model, found, path)
    return model


def save_clearervoice(model: MossFormer2, path: str | Path) -> None:
    """Write a checkpoint that ClearerVoice's loaders read: {"model": state dict}.

    Args:
        model: of width 512 or 384, or whatever their config is then given.
        path: of the file; replaced if it is there.
    """
    weights = to_clearervoice(model.state_dict())
    content = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    with write_beside(Path(path)) as beside:
        torch.save({"model": content}, beside)


def check_names(weights: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> None:
    """Raises ValueError if a name is none of theirs, or a constant has another shape."""
    for name, value in weights.items():
        if name not in wanted:
            raise ValueError(f"{path}: weight {name} is unexpected.")
        if CONSTANTS.fullmatch(name) and value.shape != wanted[name].shape:
            shapes = f"{tuple(value.shape)}, wanted {tuple(wanted[name].shape)}"
            raise ValueError(f"{path}: {name} has shape {shapes}.")


def described(weights: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """Arguments of `MossFormer2` that the shapes say.

    Raises:
        ValueError: these are the weights of something else.
    """
    try:
        width, _, kernel = weights["enc.conv1d.weight"].shape
        speakers = weights["mask_net.conv1d_out.bias"].numel() // width
    except (KeyError, ValueError, ZeroDivisionError):
        raise ValueError(f"{path}: no weights of a MossFormer2 for separation.") from None
    blocks = [match for match in map(THEIR_BLOCK.fullmatch, weights) if match]
    return {
        "width": width,
        "kernel": kernel,
        "speakers": speakers,
        "layers": max(len({match[2] for match in blocks}), 1),
        "memory": any(match[1] == "fsmn" for match in blocks),
    }


def to_clearervoice(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under ClearerVoice's names and in its shapes."""
    found = {}
    for name, value in weights.items():
        match = BLOCK.fullmatch(name)
        if name == FREQUENCIES:
            continue
        if match and match[2] == "attention":
            found[f"{STACK}.layers.{match[1]}.{their_piece(match[3], ATTENTION)}"] = value
            found[f"{STACK}.layers.{match[1]}.rotary_pos_emb.freqs"] = weights[FREQUENCIES]
        elif match:
            value = value.unsqueeze(-1) if ONE_FRAME_BLOCK.fullmatch(name) else value
            found[f"{STACK}.fsmn.{match[1]}.{their_piece(match[3], MEMORY)}"] = value
        else:
            value = value.unsqueeze(-1) if ONE_FRAME.fullmatch(name) else value
            found[replaced(name, WHOLE)] = value
    width = weights["encoder.weight"].shape[0]
    found[INV_FREQ] = 1.0 / 10000 ** (torch.arange(0, width, 2).float() / width)
    return found


def from_clearervoice(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names and in our shapes; without the constants."""
    found = {}
    for theirs, value in weights.items():
        if CONSTANTS.fullmatch(theirs):
            continue
        name = our_name(theirs)
        squeezed = ONE_FRAME.fullmatch(name) or ONE_FRAME_BLOCK.fullmatch(name)
        found[name] = value.squeeze(-1) if squeezed else value
    return found


def our_name(theirs: str) -> str:
    """Their name of a weight to ours."""
    match = THEIR_BLOCK.fullmatch(theirs)
    if not match:
        return replaced(theirs, inverted(WHOLE))
    kind, pieces = ("attention", ATTENTION) if match[1] == "layers" else ("memory", MEMORY)
    name = replaced(match[3], inverted(pieces))
    first, dot, rest = name.partition(".")
    if first in ("hidden", "key", "project", "content", "gate") and dot:
        name = f"{first}.{replaced(rest, inverted(CONV_MODULE))}"
    return f"mask_net.blocks.{match[2]}.{kind}.{name}"


def their_piece(name: str, pieces: dict[str, str]) -> str:
    """Our name inside a block to theirs."""
    first, dot, rest = name.partition(".")
    if first in ("hidden", "key", "project", "content", "gate") and dot:
        return f"{pieces[first]}.{replaced(rest, CONV_MODULE)}"
    return replaced(name, pieces)
