"""Initialisation of a model, or parts of it, with the weights of runs and of other projects.

`config.init` maps submodules of the model (or `model`, for all of it) to sources of weights:

encoder:
  source: runs/nest    # a run, also of the hub, a checkpoint, a .safetensors, .nemo or .pt file
  part: encoder        # submodule of the source (default: the same name); null: all of its weights
  strict: true         # all weights must match; false: load the matching ones
  adopt_config: true   # use the size and the front end of the source
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn
from torch.nn.functional import pad

from src.interop import clearervoice, nemo
from src.interop.clusters import read_clusters_config
from src.interop.hub import locate_source, pinned
from src.interop.recogniser import is_recogniser, read_recogniser, read_spec_augment
from src.loaded_config import read_config
from src.models.conformer import as_conv_context
from src.models.ops.depthwise_conv import DepthwiseConv
from src.text_encoder.base import TextEncoder, load_text_encoder
from src.transforms.features.log_mel import LogMel
from src.transforms.spectrogram.spec_augment import SpecAugment
from src.utils.annotations import TARGET, check_types
from src.utils.checkpoint import (
    best_checkpoint,
    is_checkpoint,
    load_weights,
    misfits,
    read_tensors,
    read_weights,
)
from src.utils.modules import dotted_name, submodule
from src.utils.options import check_choice

logger = logging.getLogger(__name__)

ADAPTERS = "encoder.adapters."  # begins the names of weights that a source need not have
HEAD = "head"  # begins the names of the weights of output layers over tokens
WHOLE = "model"  # key of `init` for the whole model
QUANTIZER = "quantizer"  # key of `init` for the targets of pretraining, whose sizes are the model's
QUANTIZER_SIZES = ("codebook_size", "num_codebooks")
ENTRY_TYPES = {"source": str, "part": str | None, "strict": bool, "adopt_config": bool}
REGULARISATION = ("dropout", "stochastic_depth")  # options that are never adopted


@dataclass(frozen=True)
class Source:
    """One entry of `config.init`: where the weights of a part of the model come from.

    Attributes:
        key: submodule of the model, or `model` for all of it.
        source: a run, or its name on the hub; a checkpoint, a .safetensors or .nemo file, or a .pt
            of ClearerVoice.
        part: submodule of the source; None: all of its weights.
        strict: all weights must match; False: load the matching ones.
        adopt_config: use the size and the front end of the source.

    Raises:
        ValueError: `strict` or `adopt_config` is not a bool.
    """

    key: str
    source: Path
    part: str | None
    strict: bool = True
    adopt_config: bool = False

    def __post_init__(self) -> None:
        for name in ("strict", "adopt_config"):
            check_choice(f"init.{self.key}.{name}", getattr(self, name), (True, False))


def sources_of(config: DictConfig) -> list[Source]:
    """The entries of `config.init`.

    Raises:
        ValueError: an entry has no source or an unknown key.
    """
    sources = []
    for key in config.get("init") or {}:
        missing = OmegaConf.is_missing(config.init, key)
        entry = None if missing else config.init[key]
        if entry is None and not missing:
            continue
        if isinstance(entry, str):
            entry = OmegaConf.create({"source": entry})
        if not isinstance(entry, DictConfig) or not OmegaConf.select(entry, "source"):
            raise ValueError(
                f"config, init.{key}.source: must be given: a run's folder or its name on the "
                "hub, a file of weights, a .nemo or a .pt file."
            )
        options: Any = {"part": None if key == WHOLE else key}
        options |= OmegaConf.to_container(entry, resolve=True)
        check_types(f"config, init.{key}", ENTRY_TYPES, options)
        sources.append(Source(str(key), Path(options.pop("source")), **options))
    return sources


@dataclass(frozen=True)
class Saved:
    """What a source knows about the model that its weights are of.

    Attributes:
        model: config of the model, or of the part that is wanted.
        features: config of the front end.
        sample_rate: in Hz.
        text_encoder: None for a model without text.
        spec_augment: config of SpecAugment in training; None: the source has none.
    """

    model: Any
    features: Any
    sample_rate: int
    text_encoder: TextEncoder | None = None
    spec_augment: Any = None


def pin_sources(config: DictConfig) -> None:
    """Add the present commit to the sources of `config.init` that are on the hub.

    So all that is read from a source is of one version, which the config of the new run names.

    Args:
        config: of an experiment; changed in place.

    Raises:
        FileNotFoundError: the hub has no run of this name, or can't be reached.
    """
    for source in sources_of(config):
        exact = pinned(source.source)
        if exact != source.source:
            entry = config.init[source.key]
            target = f"init.{source.key}" + ("" if isinstance(entry, str) else ".source")
            OmegaConf.update(config, target, str(exact))


def adopt_configs(config: DictConfig) -> None:
    """Copy size and front end from the sources with `adopt_config` into a config.

    The size of a pretrained encoder need not be repeated; options of regularisation (dropout,
    stochastic depth) are not copied. A whole model that the config leaves open is copied with
    them, except what the config sets itself.

    Args:
        config: of an experiment; changed in place.

    Raises:
        FileNotFoundError: a source has no config.
        ValueError: it has no such part, or no features.
    """
    adopted: Any = None
    for source in sources_of(config):
        if not source.adopt_config:
            continue
        saved = read_saved(source)
        if source.key == WHOLE and TARGET not in config.model:
            adopt_model(config, saved)
            logger.info("Network and front end are taken from %s.", source.source)
            continue
        with open_dict(config):
            if source.key != WHOLE and config.model.get(source.key) is None:
                config.model[source.key] = {}
            target = config.model if source.key == WHOLE else config.model[source.key]
            if saved.model.get(TARGET, target.get(TARGET)) != target.get(TARGET):
                target.clear()  # options of another kind of encoder
            for name, value in saved.model.items():
                if not str(name).startswith(REGULARISATION):
                    target[name] = value
            if source.key == QUANTIZER:
                config.model.update({name: target[name] for name in QUANTIZER_SIZES})
            config.features = saved.features
        if adopted not in (None, saved.features):
            logger.warning("The front end of %s replaces another source's.", source.source)
        adopted = saved.features
        config.sample_rate = saved.sample_rate
        kept = f"only the dropout of model.{source.key} is not"
        logger.info("Size and front end are taken from %s; %s.", source.source, kept)


def adopt_model(config: DictConfig, saved: Saved) -> None:
    """Put a network, its front end and its SpecAugment into the config of an experiment.

    Single values of the network and the front end that the config sets are kept.
    """
    with open_dict(config):
        config.model = OmegaConf.merge(saved.model, config.model)
        whole = config.features is not None and TARGET in config.features
        own = {} if config.features is None or whole else config.features
        config.features = OmegaConf.merge(saved.features, own)
        if saved.spec_augment is not None:
            config.transforms.batch.train.spec_augment = saved.spec_augment
    config.sample_rate = saved.sample_rate


def adopted_text_encoder(config: DictConfig) -> TextEncoder | None:
    """The tokens of a whole model's source with `adopt_config`, if the config has none itself.

    Args:
        config: of an experiment.

    Raises:
        FileNotFoundError: a source has no config.
        ValueError: the tokens are damaged.
    """
    if config.get("text_encoder") is not None:
        return None
    own = [s for s in sources_of(config) if s.key == WHOLE and s.adopt_config]
    return read_saved(own[0]).text_encoder if own else None


def read_saved(source: Source) -> Saved:
    """What a source knows about its model.

    Raises:
        FileNotFoundError: it is neither a run nor a .nemo file, nor one of clusters.
        ValueError: it is damaged, or has no such part.
    """
    path = locate_source(source.source)
    if path.suffix == ".nemo":
        return read_saved_nemo(path, source.part)
    if path.suffix == ".safetensors":
        saved, run = read_clusters_config(path), path
    else:
        run = path if (path / "config.yaml").exists() else path.parent
        if not (run / "config.yaml").exists():
            raise FileNotFoundError(
                f"{path}: neither a run nor a .nemo file, which adopt_config needs."
            )
        saved = read_config(run / "config.yaml")
    part = saved.model if source.part is None else OmegaConf.select(saved.model, source.part)
    if not isinstance(part, DictConfig) or not isinstance(saved.get("features"), DictConfig):
        raise ValueError(
            f"{path}: holds {saved.model.get('_target_', 'clusters')}, which has no "
            f"'{source.part}', or whose config has no features."
        )
    tokens = run / "text_encoder"
    text_encoder = load_text_encoder(tokens) if tokens.exists() else None
    return Saved(part, saved.features, saved.sample_rate, text_encoder)


def read_saved_nemo(path: Path, part: str | None) -> Saved:
    """What a .nemo file knows about its model, or a part of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or has no such part.
    """
    if not is_recogniser(path):
        if part != "encoder":
            raise ValueError(f"{path}: a pretrained model, of which only the encoder is adopted.")
        encoder, features = nemo.load_options(path)
        return Saved(encoder, {TARGET: dotted_name(LogMel), **features}, features["sample_rate"])
    own = read_recogniser(path)
    model = own.model if part is None else own.model.get(part)
    if not isinstance(model, dict):
        raise ValueError(f"{path}: a recogniser, which has no '{part}'.")
    options = nemo.apply_config(lambda _: read_spec_augment(own.spec_augment), {}, path)
    spec_augment = None if options is None else {TARGET: dotted_name(SpecAugment), **options}
    return Saved(model, own.features, own.sample_rate, own.text_encoder, spec_augment)


def initialize(model: nn.Module, config: DictConfig) -> None:
    """Load the weights of `config.init` into a model; logs loaded, unused and missing weights.

    Raises:
        FileNotFoundError: a source doesn't exist.
        ValueError: the weights don't match, or a submodule doesn't exist.
    """
    for source in sources_of(config):
        new_tokens = source.adopt_config and config.get("text_encoder") is not None
        load_part(model, source, new_tokens and source.key == WHOLE)


def load_part(model: nn.Module, source: Source, new_tokens: bool = False) -> None:
    """Load the weights of one source into a model, and log what was loaded.

    Args:
        model: gets the weights.
        source: where they are from.
        new_tokens: leave out the source's output layer, whose classes are other tokens.

    Raises:
        FileNotFoundError: the source doesn't exist.
        ValueError: the weights don't match, or a submodule doesn't exist.
    """
    path, prefix = source.source, f"{source.part}." if source.part else ""
    weights = read_source(locate_source(path))
    rest = [name for name in weights if not name.startswith(prefix)]
    weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    target = model if source.key == WHOLE else submodule(model, source.key, f"init.{source.key}")
    if new_tokens:
        rest += [name for name in weights if name.startswith(HEAD)]
        weights = {name: value for name, value in weights.items() if not name.startswith(HEAD)}
    if not weights:
        raise ValueError(f"{path}: no weight is called {prefix}*, only {summary(rest)}.")
    if source.adopt_config:
        weights |= realigned_kernels(target, weights, read_saved(source).model)
    if source.strict:
        kept = (*((HEAD,) if new_tokens else ()), *(() if source.part else (ADAPTERS,)))
        own = {k: v for k, v in target.state_dict().items() if kept and k.startswith(kept)}
        load_weights(target, own | weights, path)
    else:
        weights = load_matching(target, weights, path)
    name = "" if source.key == WHOLE else f"{source.key}."
    fresh = [k for k in model.state_dict() if k.removeprefix(name) not in weights]
    logger.info(
        "%s: loaded %d weights%s; unused weights of the file: %s; weights not in the file: %s.",
        path,
        len(weights),
        "" if source.key == WHOLE else f" of {source.key}",
        summary(rest),
        summary(fresh),
    )


def realigned_kernels(
    model: nn.Module, weights: dict[str, Tensor], saved: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Kernels of a Conformer whose convolutions get another context than in the source.

    Each weight stays with the frame that it was trained for: where symmetric convolutions become
    causal, those of future frames are dropped, and those of frames further back are zero.

    Args:
        model: that gets the weights.
        weights: of the source, kernels [D, 1, K].
        saved: config of the source's model, or of its encoder.
    """
    options = saved.get("encoder", saved)
    if "conv_context_size" not in options:
        return {}
    kernels = {}
    for name, module in model.named_modules():
        kernel = weights.get(f"{name}.weight")
        if isinstance(module, DepthwiseConv) and kernel is not None:
            size = kernel.shape[2]
            before, _ = as_conv_context(options["conv_context_size"], size)
            shift = module.context[0] - before
            if shift:
                kept = kernel[..., max(-shift, 0) : size - max(shift, 0)]
                kernels[f"{name}.weight"] = pad(kept, (max(shift, 0), max(-shift, 0)))
    return kernels


def read_source(path: Path) -> dict[str, Tensor]:
    """Weights of a run, checkpoint or file, under the names of this repository."""
    if path.suffix == ".nemo":
        if is_recogniser(path):
            return read_recogniser(path).weights
        weights = nemo.read_weights(path)
        return {k: v for k, v in weights.items() if not k.startswith("preprocessor.")}
    if path.suffix in (".pt", ".ckpt"):
        return clearervoice.load_clearervoice(path).state_dict()
    if path.is_dir():
        return read_weights(checkpoint_in(path))
    return read_tensors(path)


def checkpoint_in(path: Path) -> Path:
    """A run's best checkpoint, its last if it has no best one, or the checkpoint itself."""
    return path if is_checkpoint(path) else best_checkpoint(path)


def load_matching(model: nn.Module, weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Load the weights whose name and shape match, and log the others.

    Returns:
        The loaded weights.

    Raises:
        ValueError: no weight of a trainable parameter matches.
    """
    own = model.state_dict()
    for mismatch in misfits(own, weights):
        logger.warning("%s: %s", path, mismatch)
    matching = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trained & matching.keys():
        raise ValueError(f"{path}: no weight matches the model.")
    if len(matching) < len(own):
        logger.warning("%s: only %d of %d weights match.", path, len(matching), len(own))
    model.load_state_dict(matching, strict=False)
    return matching


def summary(names: list[str]) -> str:
    """Number of names by first component: `decoder (2), quantizer (2)`."""
    counted = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{name} ({count})" for name, count in counted.items()) or "nothing"
