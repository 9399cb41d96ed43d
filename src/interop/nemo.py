"""Import and export of NVIDIA NeMo's NEST and FastConformer checkpoints, without NeMo."""

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from src.interop import nemo_config
from src.interop.archive import read_archive, write_archive
from src.interop.naming import fill, inverted, replaced
from src.interop.nemo_sections import check_plain
from src.models.conformer import ConformerEncoder
from src.models.layers.nest.block_mask import BlockMask
from src.models.nest import NEST
from src.transforms.features.log_mel import LogMel

MODELS = ("EncDecDenoiseMaskedTokenPredModel", "EncDecMaskedTokenPredModel")
TARGET = f"nemo.collections.asr.models.ssl_models.{MODELS[0]}"
VERSION = "3.0.0"

# Prefixes of weights, ours and NeMo's; those of Conformer blocks differ in the norm only.
PREFIXES = {
    "encoder.subsampling.conv": "encoder.pre_encode.conv.0",
    "encoder.subsampling.out": "encoder.pre_encode.out",
    "mask_embedding": "mask_processor.mask_embedding",
    "decoder": "decoder.decoder_layers.0",
}
CONV_NORM, NEMO_CONV_NORM = ".conv.norm.norm.", ".conv.batch_norm."
# Linear maps here, convolutions of kernel size 1 in NeMo, whose weights have one axis more.
POINTWISE = re.compile(r"(encoder\.layers\.\d+\.conv\.pointwise_conv[12]|decoder)\.weight")
# Modules of a linear adapter, by the position of its norm.
LAST_LINEAR = re.compile(r"\.adapter_layer\.([^.]+)\.module\.2\.")  # where the norm comes last
ADAPTER = {"pre": ("norm", "down", "", "up"), "post": ("down", "", "up", "norm")}
WINDOW, BANDS = "preprocessor.featurizer.window", "preprocessor.featurizer.fb"


def load_nemo(path: str | Path) -> NEST:
    """Load the pretrained model of a .nemo file; `load_features` loads its front end.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, refused, or of another model; a parameter of its config is
            unknown; or a weight is missing, unexpected or of another shape.
    """
    path = Path(path)
    config, weights = read_archive(path)
    check_model(config, path)
    model = apply_config(build_nest, config, path)
    weights = {k: v for k, v in weights.items() if not k.startswith("preprocessor.")}
    fill(model, from_nemo(weights), path)
    return model


def load_features(path: str | Path) -> LogMel:
    """Load the front end of a .nemo file, with the window and the mel filters of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or refused, or a parameter of its config is not supported.
    """
    config, weights = read_archive(Path(path))
    features = apply_config(lambda c: LogMel(**nemo_config.read_features(c)), config, Path(path))
    for name, buffer in ((WINDOW, features.power.window), (BANDS, features.filterbank)):
        if name not in weights:
            continue
        if weights[name].squeeze().shape != buffer.shape:
            raise ValueError(
                f"{path}: {name} has shape {list(weights[name].shape)}, but "
                f"{list(buffer.shape)} by its config."
            )
        buffer.copy_(weights[name].squeeze())
    return features


def build_nest(config: dict[str, Any]) -> NEST:
    """Build the model of a NeMo config, with random weights."""
    encoder = ConformerEncoder(**nemo_config.read_encoder(config))
    masking = BlockMask(**nemo_config.read_masking(config))
    return NEST(encoder, masking, **nemo_config.read_nest(config))


def load_options(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of `ConformerEncoder` and of `LogMel` from the config of a .nemo file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or refused, or a parameter of its config is not supported.
    """
    config, _ = read_archive(Path(path))
    encoder = apply_config(nemo_config.read_encoder, config, Path(path))
    return encoder, apply_config(nemo_config.read_features, config, Path(path))


def apply_config(function: Callable[[dict], Any], config: dict[str, Any], path: Path) -> Any:
    """Call a function with the config of a .nemo file, and name the file in its errors.

    What the function returns may go on into a config of hydra, if it is a dict, so it must be of
    plain values.

    Raises:
        ValueError: a parameter is missing, unknown, not supported or no plain value.
    """
    try:
        result = function(config)
        if isinstance(result, dict):
            check_plain(result, "config")
        return result
    except KeyError as error:
        raise ValueError(f"{path}: model_config.yaml: {error} is missing.") from None
    except (TypeError, AttributeError, OverflowError):
        raise ValueError(
            f"{path}: model_config.yaml: a parameter is unknown or of another type."
        ) from None
    except (ValueError, IndexError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: model_config.yaml: {reason}") from None


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Weights of a .nemo file under our names; unknown ones keep their names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or refused.
    """
    return from_nemo(read_archive(Path(path))[1])


def save_nemo(model: NEST, path: str | Path, features: LogMel | None = None) -> None:
    """Write a .nemo file that NeMo restores with strict=True.

    Args:
        model: the model to write.
        path: the file; an existing one is replaced.
        features: front end of the model; None for NeMo's default.

    Raises:
        ValueError: NeMo has no such model or front end.
    """
    features = features or LogMel(n_mels=model.encoder.feat_in, **nemo_config.FRONT_END)
    weights = {WINDOW: features.power.window, BANDS: features.filterbank.unsqueeze(0)}
    if features.n_mels != model.encoder.feat_in:
        raise ValueError(
            f"{path}: features with {features.n_mels} mel bands for a model with feat_in "
            f"{model.encoder.feat_in}."
        )
    weights |= to_nemo(model.state_dict())
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    config = nemo_config.write(model, features)
    config |= {"target": TARGET, "nemo_version": VERSION}
    write_archive(Path(path), config, weights)


def check_model(config: dict[str, Any], path: Path) -> None:
    """Check that the config of a .nemo file is of a masked token prediction model.

    Raises:
        ValueError: it is of another model.
    """
    target = str(config.get("target"))
    if target.rpartition(".")[2] not in MODELS:
        raise ValueError(
            f"{path}: the target {target} is not supported, only {' and '.join(MODELS)}."
        )


def to_nemo(weights: dict[str, Tensor], post: Collection[str] = ()) -> dict[str, Tensor]:
    """Weights under NeMo's names and in its shapes, from a state dict with our names.

    Args:
        weights: a state dict.
        post: names of the adapters whose norm comes last.
    """
    return {
        nemo_name(name, post): value.unsqueeze(-1) if POINTWISE.fullmatch(name) else value
        for name, value in weights.items()
    }


def from_nemo(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names and in our shapes, from a state dict with NeMo's names."""
    separable = any(name.startswith("encoder.pre_encode.conv.3.") for name in weights)
    post = {match[1] for name in weights if (match := LAST_LINEAR.search(name))}
    names = {name: our_name(name, separable, post) for name in weights}
    return {
        names[name]: value.squeeze(-1) if POINTWISE.fullmatch(names[name]) else value
        for name, value in weights.items()
    }


def nemo_name(name: str, post: Collection[str] = ()) -> str:
    """NeMo's name of a weight from ours.

    Args:
        name: ours.
        post: names of the adapters whose norm comes last.
    """
    if match := re.fullmatch(r"encoder\.subsampling\.(depthwise|pointwise)\.(\d+)\.(.+)", name):
        # In NeMo a Sequential of depthwise, pointwise and ReLU for each stage.
        index = 3 * int(match[2]) + (2 if match[1] == "depthwise" else 3)
        return f"encoder.pre_encode.conv.{index}.{match[3]}"
    if match := re.fullmatch(r"encoder\.subsampling\.full\.(\d+)\.(.+)", name):
        return f"encoder.pre_encode.conv.{2 * int(match[1]) + 2}.{match[2]}"
    if match := re.fullmatch(r"encoder\.adapters\.([^.]+)\.(\d+)\.(\w+)\.(.+)", name):
        index = ADAPTER["post" if match[1] in post else "pre"].index(match[3])
        return f"encoder.layers.{match[2]}.adapter_layer.{match[1]}.module.{index}.{match[4]}"
    return replaced(name, PREFIXES).replace(CONV_NORM, NEMO_CONV_NORM)


def our_name(name: str, separable: bool = True, post: Collection[str] = ()) -> str:
    """Our name of a weight from NeMo's.

    Args:
        name: NeMo's.
        separable: whether the convolutions of the subsampling are.
        post: names of the adapters whose norm comes last.
    """
    match = re.fullmatch(r"encoder\.pre_encode\.conv\.(\d+)\.(.+)", name)
    if match and match[1] != "0" and not separable and int(match[1]) % 2 == 0:
        return f"encoder.subsampling.full.{int(match[1]) // 2 - 1}.{match[2]}"
    if match and match[1] != "0" and separable and int(match[1]) % 3 != 1:
        stage, kind = divmod(int(match[1]) - 2, 3)
        return f"encoder.subsampling.{('depthwise', 'pointwise')[kind]}.{stage}.{match[2]}"
    pattern = r"encoder\.layers\.(\d+)\.adapter_layer\.([^.]+)\.module\.([0-3])\.(.+)"
    if match := re.fullmatch(pattern, name):
        module = ADAPTER["post" if match[2] in post else "pre"][int(match[3])]
        return f"encoder.adapters.{match[2]}.{match[1]}.{module}.{match[4]}"
    return replaced(name, inverted(PREFIXES)).replace(NEMO_CONV_NORM, CONV_NORM)
