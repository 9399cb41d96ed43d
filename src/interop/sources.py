"""The sources of pretrained weights that a config names, and what they know about their models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config import target_class
from src.interop import nemo
from src.interop.clusters import read_clusters_config
from src.interop.hub import locate_source, pinned
from src.interop.recogniser import is_recogniser, read_recogniser, read_spec_augment
from src.loaded_config import read_config
from src.text_encoder.base import TextEncoder, load_text_encoder
from src.transforms.features.log_mel import LogMel
from src.transforms.spectrogram.spec_augment import SpecAugment
from src.utils.annotations import TARGET, check_types
from src.utils.modules import dotted_name
from src.utils.options import check_choice

WHOLE = "model"  # key of `init` for the whole model
ENTRY_TYPES = {"source": str, "part": str | None, "strict": bool, "adopt_config": bool}


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
        features: config of the front end; None: the model's input is the waveform.
        sample_rate: in Hz.
        text_encoder: None for a model without text.
        spec_augment: config of SpecAugment in training; None: the source has none.
        task: name of the task that the model was trained for; empty: none.
    """

    model: Any
    features: Any
    sample_rate: int
    text_encoder: TextEncoder | None = None
    spec_augment: Any = None
    task: str = ""


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
    task = target_class(saved, "task").name if saved.get("task") is not None else ""
    whole_separator = source.part is None and task == "separation"
    features = saved.get("features")
    if not isinstance(part, DictConfig) or not isinstance(
        features, DictConfig | None if whole_separator else DictConfig
    ):
        raise ValueError(
            f"{path}: holds {saved.model.get('_target_', 'clusters')}, which has no "
            f"'{source.part}', or whose config has no features."
        )
    tokens = run / "text_encoder"
    text_encoder = load_text_encoder(tokens) if tokens.exists() else None
    return Saved(part, features, saved.sample_rate, text_encoder, task=task)


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
    tokens, task = own.text_encoder, "recognition"
    return Saved(model, own.features, own.sample_rate, tokens, spec_augment, task)
