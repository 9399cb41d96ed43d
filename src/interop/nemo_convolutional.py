"""Conversion of NeMo's convolutional encoders, Jasper, QuartzNet and Citrinet, and back."""

from typing import Any

from torch import Tensor

from src.interop.naming import inverted, replaced
from src.interop.nemo_sections import check_fixed, check_known, section_of
from src.models.jasper import ConvEncoder

TARGET = "nemo.collections.asr.modules.ConvASREncoder"
# Parameters of a block: NeMo's names and ours. Those of LISTS are lists of one number in NeMo.
BLOCK = {
    "filters": "out_channels",
    "repeat": "repeat",
    "kernel": "kernel_size",
    "stride": "stride",
    "dilation": "dilation",
    "dropout": "dropout",
    "residual": "residual",
    "groups": "groups",
    "separable": "separable",
    "residual_dense": "residual_dense",
    "residual_mode": "residual_mode",
    "se": "se",
    "se_reduction_ratio": "se_reduction_ratio",
    "stride_last": "stride_last",
    "kernel_size_factor": "kernel_size_factor",
}
LISTS = ("kernel", "stride", "dilation")
REQUIRED = ("filters", "repeat", "kernel", "stride", "dilation", "dropout", "residual")
# Parameters that change no result in evaluation, and parameters of which one value is supported.
BLOCK_IGNORED = {"se_context_size", "se_interpolation_mode"}
BLOCK_FIXED = {"heads": -1, "future_context": -1}
ENCODER_IGNORED = {"_target_", "init_mode", "norm_groups"}
ENCODER_FIXED = {
    "normalization_mode": "batch",
    "conv_mask": True,
    "frame_splicing": 1,
    "quantize": False,
}
ACTIVATIONS = {"silu": "swish"}  # two names of one function in NeMo


def read_encoder(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `ConvEncoder` from a model config.

    Raises:
        KeyError: a parameter is missing.
        ValueError: a parameter is unknown or has a value that is not supported.
    """
    section = section_of(config, "encoder", "ConvASREncoder")
    check_fixed(section, ENCODER_FIXED, "encoder")
    own = {"jasper", "activation", "feat_in", "residual_mode"}
    check_known(section, own | ENCODER_IGNORED | ENCODER_FIXED.keys(), "encoder")
    mode, blocks = section.get("residual_mode", "add"), []
    for number, block in enumerate(section["jasper"]):
        mode = block.get("residual_mode", mode)  # in NeMo the default of the blocks after it, too
        blocks.append(read_block(block, mode, f"encoder.jasper[{number}]"))
    check_dense(blocks)
    activation = section["activation"]
    return {
        "feat_in": section["feat_in"],
        "blocks": blocks,
        "activation": ACTIVATIONS.get(activation, activation),
    }


def read_block(block: dict[str, Any], residual_mode: str, name: str) -> dict[str, Any]:
    """Arguments of `JasperBlock` from an entry of `encoder.jasper`.

    Args:
        block: the entry.
        residual_mode: its default.
        name: of the entry, for error messages.

    Raises:
        KeyError: a parameter is missing.
        ValueError: a parameter is unknown or has a value that is not supported.
    """
    check_fixed(block, BLOCK_FIXED, name)
    check_known(block, BLOCK.keys() | BLOCK_IGNORED | BLOCK_FIXED.keys(), name)
    for key in REQUIRED:
        if key not in block:
            raise KeyError(f"{name}.{key}")
    options = {"residual_mode": residual_mode}
    for theirs, ours in BLOCK.items():
        if theirs in block:
            value = block[theirs]
            if theirs in LISTS and isinstance(value, list):
                if len(value) != 1:
                    raise ValueError(f"{name}.{theirs}: {value} is not supported, only one number.")
                value = value[0]
            options[ours] = value
    if not options["residual"]:  # of no effect there
        options["residual_mode"] = "add"
    return options


def check_dense(blocks: list[dict[str, Any]]) -> None:
    """Check that dense blocks follow one another and that no other residual block follows them.

    Elsewhere NeMo takes the inputs of residual branches from other blocks, or fails.

    Raises:
        ValueError: they don't, or one does.
    """
    dense = [number for number, block in enumerate(blocks) if block.get("residual_dense")]
    if not dense:
        return
    after = blocks[dense[-1] + 1 : dense[-1] + 2]
    if dense != list(range(dense[0], dense[-1] + 1)) or (after and after[0].get("residual")):
        raise ValueError(
            f"encoder.jasper: residual_dense of the blocks {dense} is not supported, only of "
            "blocks that follow one another, and without a residual of the block after them."
        )


def write_encoder(encoder: ConvEncoder) -> dict[str, Any]:
    """The `encoder` section of a NeMo config.

    Raises:
        ValueError: NeMo has no such encoder.
    """
    check_dense(encoder.options["blocks"])
    return {
        "_target_": TARGET,
        "feat_in": encoder.feat_in,
        "activation": encoder.options["activation"],
        "conv_mask": True,
        "jasper": [write_block(block) for block in encoder.options["blocks"]],
    }


def write_block(options: dict[str, Any]) -> dict[str, Any]:
    """An entry of `encoder.jasper` from the arguments of `JasperBlock`."""
    defaults = {"repeat": 1, "stride": 1, "dilation": 1, "dropout": 0.0, "residual": False}
    options = {**defaults, "residual_mode": "add", **options}
    block = {theirs: options[ours] for theirs, ours in BLOCK.items() if ours in options}
    block |= {key: [block[key]] for key in LISTS}
    return block | ({"se_context_size": -1} if block.get("se") else {})


def weight_prefixes(encoder: ConvEncoder) -> dict[str, str]:
    """Prefixes of the weights of an encoder: ours and NeMo's, both with `encoder.` before them."""
    prefixes = {}
    for number, options in enumerate(encoder.options["blocks"]):
        ours, theirs = f"encoder.blocks.{number}.", f"encoder.encoder.{number}."
        groups, separable = options.get("groups", 1), options.get("separable", False)
        place = 0  # in NeMo's list of all modules of the block
        for repetition in range(options.get("repeat", 1)):
            own = f"{ours}sub_blocks.{repetition}."
            if separable:
                prefixes[own + "depthwise"] = f"{theirs}mconv.{place}.conv"
                place += 1
            prefixes[own + "conv"] = f"{theirs}mconv.{place}.conv"
            prefixes[own + "norm"] = f"{theirs}mconv.{place + 1}"
            place += 2 + (groups > 1) + 2  # the last two: activation and dropout
        if options.get("se"):  # instead of the last activation
            prefixes[ours + "se.fc1"] = f"{theirs}mconv.{place - 2}.fc.0"
            prefixes[ours + "se.fc2"] = f"{theirs}mconv.{place - 2}.fc.2"
        for branch in range(len(encoder.blocks[number].residuals)):  # type: ignore[arg-type]
            prefixes[f"{ours}residuals.{branch}.conv"] = f"{theirs}res.{branch}.0.conv"
            prefixes[f"{ours}residuals.{branch}.norm"] = f"{theirs}res.{branch}.1"
    return prefixes


def nemo_names(encoder: ConvEncoder, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under NeMo's names, `encoder.encoder...`, from ours, `encoder.blocks...`.

    Shapes are the same. Weights of other parts keep their names.
    """
    prefixes = weight_prefixes(encoder)
    return {replaced(name, prefixes): value for name, value in weights.items()}


def our_names(encoder: ConvEncoder, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names, `encoder.blocks...`, from NeMo's, `encoder.encoder...`.

    Shapes are the same. Weights of other parts, and unexpected ones, keep their names.
    """
    prefixes = inverted(weight_prefixes(encoder))
    return {replaced(name, prefixes): value for name, value in weights.items()}
