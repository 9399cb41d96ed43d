"""Weights and configs of NVIDIA NeMo's NEST and FastConformer, in and out, without NeMo."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from src.interop import nemo_config
from src.interop.archive import read_archive, write_archive
from src.interop.naming import fill, inverted, replaced
from src.models.conformer import ConformerEncoder
from src.models.layers.nest.block_mask import BlockMask
from src.models.nest import NEST
from src.transforms.features.log_mel import LogMel

MODELS = ("EncDecDenoiseMaskedTokenPredModel", "EncDecMaskedTokenPredModel")
TARGET = f"nemo.collections.asr.models.ssl_models.{MODELS[0]}"
VERSION = "3.0.0"

# Our names and NeMo's, piece by piece, in the order in which they are looked for.
LAYER = {
    "first_norm": "norm_feed_forward1",
    "second_norm": "norm_feed_forward2",
    "attention_norm": "norm_self_att",
    "convolution_norm": "norm_conv",
    "norm": "norm_out",
    "first.expand": "feed_forward1.linear1",
    "first.project": "feed_forward1.linear2",
    "second.expand": "feed_forward2.linear1",
    "second.project": "feed_forward2.linear2",
    "attention.query": "self_attn.linear_q",
    "attention.key": "self_attn.linear_k",
    "attention.value": "self_attn.linear_v",
    "attention.output": "self_attn.linear_out",
    "attention.position": "self_attn.linear_pos",
    "attention.content_bias": "self_attn.pos_bias_u",
    "attention.position_bias": "self_attn.pos_bias_v",
    "convolution.expand": "conv.pointwise_conv1",
    "convolution.depthwise": "conv.depthwise_conv",
    "convolution.norm.norm": "conv.batch_norm",
    "convolution.project": "conv.pointwise_conv2",
}
WHOLE = {
    "encoder.subsampling.first": "encoder.pre_encode.conv.0",
    "encoder.subsampling.output": "encoder.pre_encode.out",
    "encoder.output": "encoder.out_proj",
    "quantizer.projection": "quantizer.proj",
    "quantizer.codebooks": "quantizer.codebooks",
    "mask_embedding": "mask_processor.mask_embedding",
    "decoder": "decoder.decoder_layers.0",
}
# Linear maps here, convolutions of one frame there: the same numbers with an axis more.
ONE_FRAME = re.compile(r"(encoder\.layers\.\d+\.convolution\.(expand|project)|decoder)\.weight")
WINDOW, BANDS = "preprocessor.featurizer.window", "preprocessor.featurizer.fb"


def load_nemo(path: str | Path) -> NEST:
    """The pretrained model of a .nemo file: built from its config, with its weights.

    Its front end is `load_features(path)`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, hostile, or of another model; a knob of its config is unknown;
            or a weight is missing, unexpected or of another shape.
    """
    path = Path(path)
    config, weights = read_archive(path)
    check_model(config, path)
    model = described(build_nest, config, path)
    weights = {k: v for k, v in weights.items() if not k.startswith("preprocessor.")}
    fill(model, from_nemo(weights), path)
    return model


def load_features(path: str | Path) -> LogMel:
    """The front end of a .nemo file, with its own window and mel bands."""
    config, weights = read_archive(Path(path))
    features = described(lambda c: LogMel(**nemo_config.read_features(c)), config, Path(path))
    for name, buffer in ((WINDOW, features.power.window), (BANDS, features.bands)):
        if name not in weights:
            continue
        if weights[name].squeeze().shape != buffer.shape:
            raise ValueError(
                f"{path}: {name} has shape {list(weights[name].shape)}, its config says "
                f"{list(buffer.shape)}."
            )
        buffer.copy_(weights[name].squeeze())
    return features


def build_nest(config: dict[str, Any]) -> NEST:
    """The model that a config describes, with random weights."""
    encoder = ConformerEncoder(**nemo_config.read_encoder(config))
    masking = BlockMask(**nemo_config.read_masking(config))
    return NEST(encoder, masking, **nemo_config.read_nest(config))


def load_options(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `ConformerEncoder` and `LogMel` are to be called with for those of any .nemo file."""
    config, _ = read_archive(Path(path))
    encoder = described(nemo_config.read_encoder, config, Path(path))
    return encoder, described(nemo_config.read_features, config, Path(path))


def described(read: Callable[[dict], Any], config: dict[str, Any], path: Path) -> Any:
    """What a part of the config says.

    Raises:
        ValueError: a knob is missing, unknown or not supported; names the file and the knob.
    """
    try:
        return read(config)
    except KeyError as error:
        raise ValueError(f"{path}: model_config.yaml: {error} is missing.") from None
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: model_config.yaml: {reason}") from None


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights of a .nemo file under our names; those of other parts keep theirs."""
    return from_nemo(read_archive(Path(path))[1])


def save_nemo(model: NEST, path: str | Path, features: LogMel | None = None) -> None:
    """Write a .nemo file that NeMo restores strictly.

    Args:
        model: any NEST.
        path: of the file; replaced if it is there.
        features: its front end; None: NeMo's usual one.

    Raises:
        ValueError: NeMo has no such model or front end.
    """
    features = features or LogMel(n_mels=model.encoder.n_features, **nemo_config.FRONT_END)
    weights = {WINDOW: features.power.window, BANDS: features.bands.unsqueeze(0)}
    if features.n_mels != model.encoder.n_features:
        raise ValueError(
            f"{path}: features of {features.n_mels} bands for a model of "
            f"{model.encoder.n_features}."
        )
    weights |= to_nemo(model.state_dict())
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    config = nemo_config.write(model, features)
    config |= {"target": TARGET, "nemo_version": VERSION}
    write_archive(Path(path), config, weights)


def check_model(config: dict[str, Any], path: Path) -> None:
    """See that an archive holds a masked token prediction model.

    Raises:
        ValueError: it holds another one; names it.
    """
    target = str(config.get("target", "no model"))
    if target.rpartition(".")[2] not in MODELS:
        raise ValueError(f"{path}: holds {target}; wanted {' or '.join(MODELS)}.")


def to_nemo(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under NeMo's names and in its shapes."""
    return {
        nemo_name(name): value.unsqueeze(-1) if ONE_FRAME.fullmatch(name) else value
        for name, value in weights.items()
    }


def from_nemo(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our names and in our shapes."""
    found = {}
    for theirs, value in weights.items():
        name = our_name(theirs)
        found[name] = value.squeeze(-1) if ONE_FRAME.fullmatch(name) else value
    return found


def nemo_name(name: str) -> str:
    """Our name of a weight to NeMo's."""
    if match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name):
        return f"encoder.layers.{match[1]}.{replaced(match[2], LAYER)}"
    if match := re.fullmatch(r"encoder\.subsampling\.(depthwise|pointwise)\.(\d+)\.(.+)", name):
        index = 3 * int(match[2]) + (2 if match[1] == "depthwise" else 3)
        return f"encoder.pre_encode.conv.{index}.{match[3]}"
    return replaced(name, WHOLE)


def our_name(name: str) -> str:
    """NeMo's name of a weight to ours."""
    if match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name):
        return f"encoder.layers.{match[1]}.{replaced(match[2], inverted(LAYER))}"
    match = re.fullmatch(r"encoder\.pre_encode\.conv\.(\d+)\.(.+)", name)
    if match and int(match[1]) % 3 != 1 and match[1] != "0":
        stage, kind = divmod(int(match[1]) - 2, 3)
        return f"encoder.subsampling.{('depthwise', 'pointwise')[kind]}.{stage}.{match[2]}"
    return replaced(name, inverted(WHOLE))
