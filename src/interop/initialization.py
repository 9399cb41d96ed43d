"""Initialisation of a model, or parts of it, with the weights of runs and of other projects.

`config.init` maps submodules of the model (or `model`, for all of it) to sources of weights:

encoder:
  source: runs/nest    # a run, also of the hub, a checkpoint, a .safetensors, .nemo or .pt file
  part: encoder        # submodule of the source (default: the same name); null: all of its weights
  strict: true         # all weights must match; false: load the matching ones
  adopt_config: true   # use the size and the front end of the source
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn
from torch.nn.functional import pad

from src.interop import clearervoice, nemo
from src.interop.hub import locate_source
from src.interop.recogniser import is_recogniser, read_recogniser
from src.interop.sources import WHOLE, Saved, Source, read_saved, sources_of
from src.models.conformer import ConformerEncoder, as_conv_context
from src.models.ops.depthwise_conv import DepthwiseConv
from src.text_encoder.base import TextEncoder
from src.utils.annotations import TARGET
from src.utils.checkpoint import (
    best_checkpoint,
    is_checkpoint,
    load_weights,
    misfits,
    read_tensors,
    read_weights,
)
from src.utils.modules import submodule
from src.utils.nodes import plain
from src.utils.options import refuse

logger = logging.getLogger(__name__)

ADAPTERS = "encoder.adapters."  # begins the names of weights that a source need not have
# Names of the weights of the output layer over tokens, the last of several with numbers.
OUTPUT_LAYER = re.compile(r"head\.(?:(\d+)\.)?(weight|bias)")
QUANTIZER = "quantizer"  # key of `init` for the targets of pretraining, whose sizes are the model's
QUANTIZER_SIZES = ("codebook_size", "num_codebooks")
REGULARISATION = ("dropout", "stochastic_depth")  # options that are never adopted
RECOGNISER = "recogniser"
# Keys of `init` for the models of whole systems in a joint one -> the tasks of these systems.
SYSTEMS = {"separator": "separation", RECOGNISER: "recognition"}


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
        if source.key in SYSTEMS and source.part is None:
            adopt_system(config, source, saved)
            logger.info("model.%s is taken from %s.", source.key, source.source)
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
    if is_joint(config.model) and config.model.get("recogniser_rate"):
        report_rates(config.sample_rate, config.model.recogniser_rate)


def report_rates(separator: int, recogniser: int) -> None:
    """Log that voices are resampled for the recogniser, if they are.

    Args:
        separator: its sample rate in Hz.
        recogniser: its sample rate in Hz.
    """
    if separator != recogniser:
        logger.info(
            "The separator works at %d Hz and the recogniser at %d Hz: voices are resampled, and "
            "have nothing above %d Hz.",
            separator,
            recogniser,
            min(separator, recogniser) // 2,
        )


def adopt_model(config: DictConfig, saved: Saved) -> None:
    """Put a network, its front end and its SpecAugment into the config of an experiment.

    Single values of the network and the front end that the config sets are kept.
    """
    with open_dict(config):
        config.model = OmegaConf.merge(saved.model, config.model)
        whole = config.features is not None and TARGET in config.features
        own = {} if config.features is None or whole else config.features
        if saved.features is not None:
            config.features = OmegaConf.merge(saved.features, own)
        if saved.spec_augment is not None:
            config.transforms.batch.train.spec_augment = saved.spec_augment
    config.sample_rate = saved.sample_rate


def adopt_system(config: DictConfig, source: Source, saved: Saved) -> None:
    """Put the separator or the recogniser of a joint model into the config of an experiment.

    The sample rate of the audio is that of the separator; the recogniser has its own, its front
    end and as many tokens as its source. Values that the config sets itself are kept.

    Args:
        config: of an experiment; changed in place.
        source: of a separator or a recogniser.
        saved: what it knows about its model.

    Raises:
        ValueError: it is of another task, or the config has other tokens.
    """
    key = source.key
    if is_joint(saved.model):
        raise ValueError(
            f"config, init.{key}.source: {source.source} has both a separator and a recogniser; "
            f"go on with both by init=model init.model.source={source.source} "
            "init.model.adopt_config=true."
        )
    if saved.task != SYSTEMS[key]:
        raise ValueError(
            f"config, init.{key}.source: {source.source} is a run of {saved.task}, not of "
            f"{SYSTEMS[key]}."
        )
    with open_dict(config):
        config.model[key] = OmegaConf.merge(saved.model, config.model.get(key) or {})
        if key != RECOGNISER:
            config.sample_rate = saved.sample_rate
            return
        if config.get("text_encoder") is not None:
            refuse("config, text_encoder", plain(config.text_encoder), "null: those of the source")
        config.model.features, config.model.recogniser_rate = saved.features, saved.sample_rate
        config.model[key].vocab_size = len(saved.text_encoder or ())


def is_joint(model: Any) -> bool:
    """Whether the config of a model is that of a separator and a recogniser."""
    return all(isinstance(model.get(key), DictConfig) for key in SYSTEMS)


def adopted_text_encoder(config: DictConfig) -> TextEncoder | None:
    """The tokens of a source with `adopt_config`, if the config has none itself.

    They are those of the whole model's source, or of a joint model's recogniser.

    Args:
        config: of an experiment.

    Raises:
        FileNotFoundError: a source has no config.
        ValueError: the tokens are damaged.
    """
    if config.get("text_encoder") is not None:
        return None
    own = [s for s in sources_of(config) if s.key in (WHOLE, RECOGNISER) and s.adopt_config]
    return read_saved(own[0]).text_encoder if own else None


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
    replaced = output_layer(weights) if new_tokens else set()
    rest += replaced
    weights = {name: value for name, value in weights.items() if name not in replaced}
    if not weights:
        raise ValueError(f"{path}: no weight is called {prefix}*, only {summary(rest)}.")
    if source.adopt_config:
        weights |= realigned_kernels(target, weights, read_saved(source).model)
    if source.strict:
        kept = () if source.part else (ADAPTERS,)
        own = target.state_dict()
        own = {k: v for k, v in own.items() if k in replaced or k.startswith(kept)}
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


def output_layer(names: Iterable[str]) -> set[str]:
    """Which names of weights are of the output layer over tokens, the last layer of the head."""
    layers = {name: int(match[1] or 0) for name in names if (match := OUTPUT_LAYER.fullmatch(name))}
    return {name for name, number in layers.items() if number == max(layers.values())}


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
    kernels = {}
    for place, encoder in model.named_modules():
        options = part_of(saved, place)
        if not isinstance(encoder, ConformerEncoder) or options is None:
            continue
        context = options.get("conv_context_size")  # not in old files of NeMo, where it is None
        for name, module in encoder.named_modules(prefix=place):
            kernel = weights.get(f"{name}.weight")
            if isinstance(module, DepthwiseConv) and kernel is not None:
                size = kernel.shape[2]
                shift = module.context[0] - as_conv_context(context, size)[0]
                if shift:
                    kept = kernel[..., max(-shift, 0) : size - max(shift, 0)]
                    kernels[f"{name}.weight"] = pad(kept, (max(shift, 0), max(-shift, 0)))
    return kernels


def part_of(saved: Any, place: str) -> Any:
    """The config of a submodule in that of its model; None if it has no config of its own."""
    for key in place.split(".") if place else ():
        saved = saved.get(key) if isinstance(saved, Mapping) else None
    return saved


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
