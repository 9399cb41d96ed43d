"""The config of a run that was loaded from disk, which may be a stranger's."""

import io
import re
from collections.abc import Iterator, Sequence
from functools import reduce
from importlib import import_module
from operator import getitem
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf

from src.utils.annotations import TARGET
from src.utils.files import check_regular
from src.utils.options import shown

MAX_BYTES = 2**18
MAX_DEPTH = 50
YAML_END = "..."  # ends a document of YAML; without it, a config has lost its end
REFERENCE = re.compile(r"\$\{[\w.]+\}")  # to another key, as against a resolver: ${name:...}
# Packages whose classes may be named below each key at the top level.
ALLOWED: dict[Any, tuple[str, ...]] = {
    "model": ("src.models", "src.transforms.features", "torch.nn"),
    "features": ("src.transforms", "torch.nn"),
    "cleaning": ("src.transforms", "torch.nn"),
    "transforms": ("src.transforms", "torch.nn"),
    "task": ("src.tasks", "src.text_encoder"),
    "text_encoder": ("src.text_encoder",),
    "loss": ("src.loss", "src.text_encoder", "torch.nn"),
    "metrics": ("src.metrics",),
    "datasets": ("src.datasets", "src.transforms"),
    "optimizer": ("src.utils.muon", "src.utils.novograd", "torch.optim"),
    "scheduler": ("src.utils.schedulers", "torch.optim"),
    "trainer": ("src.trainer",),
    "writer": ("src.logger",),
}
# Modules of src.datasets that were moved into folders, so that older runs can be loaded.
CORPORA = (
    *("an4", "common_voice", "gigaspeech", "golos", "libricss", "librimix"),
    *("librispeech", "mls", "open_stt", "sparse_librimix", "speech_commands", "speechocean"),
    *("tedlium", "voxforge", "wham", "wsj0_mix"),
)
MOVED = {name: f"corpora.{name}" for name in CORPORA} | {
    "demo": "demo.corpus",
    "mixtures": "mixtures.folders",
    "dynamic_mixtures": "mixtures.dynamic",
    "conversations": "mixtures.conversations",
    "rooms": "mixtures.rooms",
    "timeline": "mixtures.timeline",
}
OLD_TARGET = re.compile(rf"(?<=_target_: src\.datasets\.)({'|'.join(MOVED)})(?=\.[A-Z])")
NAMED = ("evaluations", "optimizers")  # hold mappings with some of the keys above, by name

Place = tuple[Any, ...]  # the keys on the way to a value


def read_config(path: Path, trusted: Sequence[str] = ()) -> DictConfig:
    """The config of a run, which can neither run code nor read secrets.

    Args:
        path: of the YAML file.
        trusted: packages whose classes may be named anywhere, besides `ALLOWED`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't a mapping in YAML, has lost its end, names a class that isn't
            allowed, or holds another `$` than in references to single values.
    """
    check_regular(path)
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    return parse_config(data, path, trusted)


def parse_config(data: bytes, path: Path, trusted: Sequence[str] = ()) -> DictConfig:
    """The config that `format_config` wrote, which can neither run code nor read secrets.

    Args:
        data: YAML in UTF-8.
        path: of the file that it is from.
        trusted: packages whose classes may be named anywhere, besides `ALLOWED`.

    Raises:
        ValueError: it isn't a mapping in YAML, has lost its end, names a class that isn't
            allowed, or holds another `$` than in references to single values.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path}: the config is larger than {MAX_BYTES} bytes.")
    try:
        text = data.decode("utf-8")
        check_yaml(text)
        text = OLD_TARGET.sub(lambda match: MOVED[match[1]], text)
        config = OmegaConf.load(io.StringIO(text))
    except Exception as error:  # of any kind: those of YAML's own tags, e.g. KeyError of !!bool
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path}: not readable as YAML ({reason}).") from None
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path}: not a mapping.")
    if text.rstrip().rpartition("\n")[2] != YAML_END:
        raise ValueError(f"{path}: truncated, its last line isn't '{YAML_END}'.")
    check_references(config, path)
    check_config(config, path, trusted)
    return config


def format_config(config: DictConfig, **further: Any) -> str:
    """A config with all references resolved as YAML, which `read_config` reads.

    Args:
        config: of an experiment.
        further: keys to add or replace.
    """
    values: Any = OmegaConf.to_container(config, resolve=True)
    return f"{OmegaConf.to_yaml(OmegaConf.create(values | further))}{YAML_END}\n"


def check_config(config: DictConfig, path: Path, trusted: Sequence[str] = ()) -> None:
    """Check that no value of a config has a `$`, and that it names only classes that it may.

    Args:
        config: whose references are allowed, or its own.
        path: of the file that it is from.
        trusted: packages whose classes may be named anywhere, besides `ALLOWED`.

    Raises:
        ValueError: one has, or it names another class.
    """
    for place, value in entries(OmegaConf.to_container(config, resolve=True)):
        if isinstance(value, str) and "$" in value:
            raise ValueError(f"{path}, {dotted(place)}: {shown(value)}; no '$' is allowed.")
        if place[-1] == TARGET:
            check_target(value, place, path, trusted)


def check_yaml(text: str) -> None:
    """Check that YAML holds no anchors, with which few bytes make endless configs, nor is deep.

    Raises:
        ValueError: it does, or is.
        yaml.YAMLError: it isn't YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if getattr(event, "anchor", None) is not None:
            raise ValueError(f"line {event.start_mark.line + 1}: anchors are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels")


def check_references(config: DictConfig, path: Path) -> None:
    """Check that every `$` is that of a string `${key}`, where `key` has a single value.

    References inside of strings could be put together to a resolver, and references to mappings
    to a config without end.

    Raises:
        ValueError: one isn't; names its place.
    """
    for place, value in entries(OmegaConf.to_container(config, resolve=False)):
        where = f"{path}, {dotted(place)}: "
        if "$" in str(place[-1]):
            raise ValueError(f"{where}a key; no '$' is allowed.")
        if not isinstance(value, str) or "$" not in value:
            continue
        if not REFERENCE.fullmatch(value):
            raise ValueError(f"{where}{shown(value)}; only references like ${{key}} are allowed.")
        try:
            target = reduce(getitem, place, config)
        except Exception:  # of any kind: no such key, a circle
            raise ValueError(f"{where}{shown(value)}; there is no such value.") from None
        if isinstance(target, DictConfig | ListConfig):
            raise ValueError(f"{where}{shown(value)}; a reference to several values.")


def entries(node: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """(place, value) of every entry of plain containers, those inside of other entries too."""
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield (*place, key), node[key]
            yield from entries(node[key], (*place, key))


def dotted(place: Place) -> str:
    """A place as text."""
    return ".".join(map(str, place))


def check_target(name: Any, place: Place, path: Path, trusted: Sequence[str] = ()) -> None:
    """Check that a `_target_` is a class that may be named at its place, or one of `trusted`.

    Raises:
        ValueError: it isn't; names the place in the config.
    """
    group = place[2] if place[0] in NAMED and len(place) > 2 else place[0]
    allowed = (*ALLOWED.get(group, ()), *trusted)
    only = f"only {', '.join(allowed)}" if allowed else "nor any other class"
    where = f"{path}, {dotted(place)}"
    fault = ValueError(f"{where}: {shown(name)} may not be instantiated here, {only}.")
    if not isinstance(name, str) or not within(name, allowed):
        raise fault
    module, _, attribute = name.rpartition(".")
    try:
        target = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise ValueError(f"{where}: there is no '{name}'.") from None
    # A module's attributes include what it imported itself, e.g. `src.run.torch.load`.
    if not isinstance(target, type) or not within(target.__module__, allowed):
        raise fault


def within(name: str, packages: Sequence[str]) -> bool:
    """Whether a dotted name is inside one of the packages."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)
