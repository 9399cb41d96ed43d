"""Checkpoints of ClearerVoice-Studio's MossFormer2 for separation: load, save, convert."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.interop.archive import as_tensors, read_torch
from src.interop.naming import fill, inverted, replaced
from src.models.mossformer2 import MossFormer2
from src.utils.files import write_beside

# Our names to theirs, by prefix; the first that fits counts.
CONV_MODULE = {"norm.scale": "mdl.0.g", "norm": "mdl.0", "linear": "mdl.1"}
CONV_MODULE |= {"kernel": "mdl.3.sequential.1.conv.weight"}
CONV_MODULES = ("to_hidden", "to_qk", "to_out", "to_u", "to_v")
ATTENTION = {
    "to_hidden": "to_hidden",
    "to_qk": "to_qk",
    "to_out": "to_out",
    "gamma": "qk_offset_scale.gamma",
    "beta": "qk_offset_scale.beta",
}
FSMN = {
    "bottleneck": "conv1.0",
    "slope": "conv1.1.weight",
    "norm_in": "norm1",
    "norm_out": "norm2",
    "to_u": "gated_fsmn.to_u",
    "to_v": "gated_fsmn.to_v",
    "fsmn.linear": "gated_fsmn.fsmn.linear",
    "fsmn.project": "gated_fsmn.fsmn.project",
    "fsmn.layer1.kernel": "gated_fsmn.fsmn.conv.conv1.weight",
    "fsmn.layer1.norm": "gated_fsmn.fsmn.conv.norm1",
    "fsmn.layer1.slope": "gated_fsmn.fsmn.conv.prelu1.weight",
    "fsmn.layer2.kernel": "gated_fsmn.fsmn.conv.conv2.weight",
    "fsmn.layer2.norm": "gated_fsmn.fsmn.conv.norm2",
    "fsmn.layer2.slope": "gated_fsmn.fsmn.conv.prelu2.weight",
    "output": "conv2",
}
NETWORK = {
    "encoder": "enc.conv1d",
    "decoder": "dec",
    "mask_net.norm": "mask_net.norm",
    "mask_net.input_proj": "mask_net.conv1d_encoder",
    "mask_net.position_scale": "mask_net.pos_enc.scale",
    "mask_net.frame_norm": "mask_net.mdl.intra_mdl.norm",
    "mask_net.item_norm": "mask_net.mdl.intra_norm",
    "mask_net.slope": "mask_net.prelu.weight",
    "mask_net.speaker_proj": "mask_net.conv1d_out",
    "mask_net.value": "mask_net.output.0",
    "mask_net.gate": "mask_net.output_gate.0",
    "mask_net.output_proj": "mask_net.conv1_decoder",
}
THEIR_BLOCKS = "mask_net.mdl.intra_mdl.mossformerM"
BLOCK = re.compile(r"mask_net\.blocks\.(\d+)\.(attention|fsmn)\.(.+)")
THEIR_BLOCK = re.compile(re.escape(THEIR_BLOCKS) + r"\.(layers|fsmn)\.(\d+)\.(.+)")
ROTARY = "mask_net.rotary_frequencies"  # one parameter here, one for each block there
INV_FREQ = "mask_net.pos_enc.inv_freq"  # follows from d_model; a buffer there
CONSTANTS = re.compile(rf"{re.escape(INV_FREQ)}|.*\.rotary_pos_emb\.freqs")
# Weights with one axis less here: linear maps that are convolutions with a kernel of 1 there, and
# kernels of the FSMN, which are two-dimensional there.
SQUEEZED = re.compile(
    r"mask_net\.(input_proj|speaker_proj|value|gate|output_proj)\.weight"
    r"|mask_net\.blocks\.\d+\.fsmn\.(bottleneck\.weight|output\.weight|fsmn\.layer\d\.kernel)"
)


def load_clearervoice(path: str | Path) -> MossFormer2:
    """Load a MossFormer2 from a ClearerVoice-Studio checkpoint.

    The model's arguments are inferred from the shapes of the weights. Both the files that
    ClearerVoice's trainer saves, `{"model": ..., "optimizer": ...}`, and bare state dicts are read,
    with or without the prefix `module.` of DistributedDataParallel. Every weight must fit, whereas
    ClearerVoice's own loader leaves those that do not at random values. The sample rate is not in
    the file.

    Args:
        path: of the checkpoint.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is truncated, contains more than tensors and plain containers, is not
            of a MossFormer2, or a weight is missing, unexpected or of a wrong shape.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    weights = read_weights(path)
    try:
        model = MossFormer2(**infer_options(weights, path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    check_names(weights, to_clearervoice(model.state_dict()), path)
    ours = from_clearervoice(weights)
    ours[ROTARY] = model.mask_net.rotary_frequencies
    fill(model, ours, path)
    return model


def save_clearervoice(model: MossFormer2, path: str | Path) -> None:
    """Write a checkpoint that ClearerVoice-Studio's loaders read: `{"model": state dict}`.

    Args:
        model: with d_model of 512 or 384, or of what ClearerVoice's config is then set to.
        path: of the file; replaced if it exists.

    Raises:
        ValueError: the model has no FSMN, without which ClearerVoice has no network.
    """
    if not model.options["use_fsmn"]:
        raise ValueError(f"{path}: ClearerVoice has no MossFormer2 without FSMN (model.use_fsmn).")
    weights = to_clearervoice(model.state_dict())
    content = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    with write_beside(Path(path)) as beside:
        torch.save({"model": content}, beside)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a ClearerVoice checkpoint, without the prefix `module.`.

    Raises:
        ValueError: the file is no checkpoint, or has weights both with and without the prefix.
    """
    content = read_torch(path, path, "it")
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    prefixed = as_tensors(content, path, "it")
    weights = {name.removeprefix("module."): value for name, value in prefixed.items()}
    if len(weights) < len(prefixed):
        raise ValueError(f"{path}: some weights are there with `module.` and without.")
    return weights


def check_names(weights: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """Raise ValueError if a name is not among those expected, or a constant has a wrong shape."""
    for name, value in weights.items():
        if name not in expected:
            raise ValueError(f"{path}: weight {name} is unexpected.")
        if CONSTANTS.fullmatch(name) and value.shape != expected[name].shape:
            shapes = f"{tuple(value.shape)}, expected {tuple(expected[name].shape)}"
            raise ValueError(f"{path}: {name} has shape {shapes}.")


def infer_options(weights: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """Arguments of `MossFormer2` from the names and shapes of ClearerVoice's weights.

    Raises:
        ValueError: these are not the weights of a MossFormer2.
    """
    try:
        d_model, _, kernel_size = weights["enc.conv1d.weight"].shape
        num_speakers = weights["mask_net.conv1d_out.bias"].numel() // d_model
    except (KeyError, ValueError, ZeroDivisionError):
        raise ValueError(f"{path}: no weights of a MossFormer2 for separation.") from None
    blocks = [match for match in map(THEIR_BLOCK.fullmatch, weights) if match]
    return {
        "d_model": d_model,
        "num_layers": max(len({match[2] for match in blocks}), 1),
        "kernel_size": kernel_size,
        "num_speakers": num_speakers,
        "use_fsmn": any(match[1] == "fsmn" for match in blocks),
    }


def to_clearervoice(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of `MossFormer2` to ClearerVoice's names and shapes."""
    theirs = {}
    for name, value in weights.items():
        if name == ROTARY:
            continue
        theirs[their_name(name)] = value.unsqueeze(-1) if SQUEEZED.fullmatch(name) else value
        match = BLOCK.fullmatch(name)
        if match and match[2] == "attention":
            freqs = f"{THEIR_BLOCKS}.layers.{match[1]}.rotary_pos_emb.freqs"
            theirs[freqs] = weights[ROTARY]
    d_model = weights["encoder.weight"].shape[0]
    theirs[INV_FREQ] = 1.0 / 10000 ** (torch.arange(0, d_model, 2).float() / d_model)
    return theirs


def from_clearervoice(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert ClearerVoice's weights to the names and shapes of `MossFormer2`.

    Constants, which follow from the arguments of the model, are dropped.
    """
    ours = {}
    for theirs, value in weights.items():
        if not CONSTANTS.fullmatch(theirs):
            name = our_name(theirs)
            ours[name] = value.squeeze(-1) if SQUEEZED.fullmatch(name) else value
    return ours


def their_name(name: str) -> str:
    """ClearerVoice's name of one of our weights."""
    match = BLOCK.fullmatch(name)
    if not match:
        return replaced(name, NETWORK)
    kind, prefixes = ("layers", ATTENTION) if match[2] == "attention" else ("fsmn", FSMN)
    first, dot, rest = match[3].partition(".")
    if first in CONV_MODULES:
        rest = replaced(rest, CONV_MODULE)
    return f"{THEIR_BLOCKS}.{kind}.{match[1]}.{replaced(first + dot + rest, prefixes)}"


def our_name(theirs: str) -> str:
    """Our name of one of ClearerVoice's weights."""
    match = THEIR_BLOCK.fullmatch(theirs)
    if not match:
        return replaced(theirs, inverted(NETWORK))
    kind, prefixes = ("attention", ATTENTION) if match[1] == "layers" else ("fsmn", FSMN)
    first, dot, rest = replaced(match[3], inverted(prefixes)).partition(".")
    if first in CONV_MODULES:
        rest = replaced(rest, inverted(CONV_MODULE))
    return f"mask_net.blocks.{match[2]}.{kind}.{first}{dot}{rest}"
