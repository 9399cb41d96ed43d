"""Files of clusters: the quantizer of clustered features, with its config in the metadata.

A file is a run in small: its weights are called `quantizer.*`, and its config has `features`,
`sample_rate` and `model.quantizer`. So `init.quantizer.source` may be such a file or a run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError, safe_open

from src.config import build
from src.loaded_config import format_config, parse_config
from src.models.conformer import ConformerEncoder
from src.models.layers.nest.clusters import ClusterQuantizer, EncoderLayers, StackedFrames
from src.utils.annotations import TARGET
from src.utils.checkpoint import tensors_to_bytes
from src.utils.files import check_regular, write_beside
from src.utils.modules import dotted_name

CONFIG = "config"  # key of the metadata


def layers_node(encoder: ConformerEncoder, layers: Sequence[int]) -> dict[str, Any]:
    """Config of the features of an encoder's layers; blocks behind the last of them are left out.

    Args:
        encoder: whose layers are wanted.
        layers: 0 for the input of the first block, i for the output of block i.
    """
    changes = {
        "num_layers": max(1, *layers),
        "feat_out": None,
        "stochastic_depth_drop_prob": 0.0,
        "stochastic_depth_start_layer": 1,
    }
    options = {TARGET: dotted_name(ConformerEncoder), **encoder.options, **changes}
    return {TARGET: dotted_name(EncoderLayers), "encoder": options, "layers": list(layers)}


def frames_node(feat_in: int, combine_time_steps: int, num_ceps: int | None) -> dict[str, Any]:
    """Config of the features of stacked frames, with the arguments of `StackedFrames`."""
    return {
        TARGET: dotted_name(StackedFrames),
        "feat_in": feat_in,
        "combine_time_steps": combine_time_steps,
        "num_ceps": num_ceps,
    }


def build_quantizer(
    features: dict[str, Any],
    codebook_size: int,
    num_codebooks: int,
    encoder: ConformerEncoder | None = None,
) -> tuple[ClusterQuantizer, dict[str, Any]]:
    """A quantizer whose centres are still to be computed, and its config.

    Args:
        features: config of the features.
        codebook_size: number of clusters.
        num_codebooks: number of layers of the features.
        encoder: whose weights the features get, if they have an encoder.

    Raises:
        ValueError: a size is out of range.
    """
    node = {
        TARGET: dotted_name(ClusterQuantizer),
        "features": features,
        "codebook_size": codebook_size,
        "num_codebooks": num_codebooks,
    }
    quantizer = build(OmegaConf.create({"quantizer": node}), "quantizer")
    if encoder is not None:
        own, weights = quantizer.features.encoder, encoder.state_dict()
        own.load_state_dict({name: weights[name] for name in own.state_dict()})
    return quantizer.eval(), node


def save_clusters(
    path: Path, quantizer: ClusterQuantizer, node: dict[str, Any], features: Any, sample_rate: int
) -> None:
    """Write a quantizer, and the front end whose spectrograms it takes.

    Args:
        path: of the .safetensors file.
        quantizer: with its centres.
        node: its config.
        features: config of the front end.
        sample_rate: in Hz.
    """
    config = {"sample_rate": sample_rate, "features": features, "model": {"quantizer": node}}
    weights = {f"quantizer.{name}": value for name, value in quantizer.state_dict().items()}
    metadata = {CONFIG: format_config(OmegaConf.create(config))}
    with write_beside(path) as beside:
        beside.write_bytes(tensors_to_bytes(weights, metadata))


def read_clusters_config(path: Path) -> DictConfig:
    """The config of a file of clusters: `features`, `sample_rate` and `model.quantizer`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or has no config.
    """
    check_regular(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated or not a safetensors file ({error}).") from None
    if CONFIG not in metadata:
        raise ValueError(
            f"{path}: weights without a config, which adopt_config needs; only files of "
            "scripts/cluster_features.py have one."
        )
    return parse_config(metadata[CONFIG].encode(), path)
