"""Datasets from the config."""

import inspect
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from src.config import build, target_class
from src.datasets.manifest_dataset import ManifestDataset
from src.datasets.mixed import MixedDataset, check_weights
from src.datasets.mixtures.conversations import Conversations
from src.datasets.mixtures.dynamic import DynamicMixtures
from src.datasets.recognition import RecognitionDataset
from src.utils.nodes import plain
from src.utils.options import refuse
from src.utils.random import salted_seed

# Base class of datasets -> the one of them that reads any manifest.
READERS: dict[type, type] = {
    RecognitionDataset: ManifestDataset,
    DynamicMixtures: DynamicMixtures,
    Conversations: Conversations,
}


def name_datasets(config: DictConfig) -> None:
    """Enter the datasets that evaluations describe themselves into `config.datasets`.

    An evaluation names a dataset, or describes its own: by a mapping with `_target_`, or by a
    manifest FILE.jsonl that is read as the dataset `test` is.

    Args:
        config: an experiment's, changed in place.

    Raises:
        ValueError: there is another dataset of the name of such an evaluation, its mapping names no
            class, or `test` reads no manifests.
    """
    for name, evaluation in config.evaluations.items():
        dataset = (evaluation or {}).get("dataset")
        place = f"config, evaluations.{name}.dataset"
        if isinstance(dataset, str) and dataset.endswith(".jsonl"):
            dataset = like_test_set(config, dataset, place)
        elif isinstance(dataset, DictConfig):
            target_class(evaluation, "dataset")  # raises
        else:
            continue
        if config.datasets.get(name) is not None:
            raise ValueError(f"{place}: there is a dataset '{name}'; choose another name.")
        with open_dict(config):
            config.datasets[name], evaluation.dataset = dataset, name


def like_test_set(config: DictConfig, manifest: str, place: str) -> DictConfig:
    """The config of a dataset that reads a manifest, with the options of the dataset `test`.

    Args:
        config: an experiment's.
        manifest: the file.
        place: in the config, for errors.

    Raises:
        ValueError: `test` is neither of utterances nor of their mixtures or conversations.
    """
    node = config.datasets.get("test")
    kind: type = ManifestDataset if node is None else target_class(config.datasets, "test")
    for base, reader in READERS.items():
        if issubclass(kind, base):
            own = () if kind is reader else inspect.signature(kind).parameters  # not of the reader
            options = {key: value for key, value in (node or {}).items() if key not in own}
            target = f"{reader.__module__}.{reader.__qualname__}"
            return OmegaConf.create(options | {"_target_": target, "manifest": manifest})
    raise ValueError(f"{place}: {kind.__name__} reads no manifest; give a mapping with _target_.")


def build_dataset(config: DictConfig, name: str, **objects: Any) -> Any:
    """The dataset `config.datasets.<name>`.

    Args:
        config: an experiment's.
        name: of the dataset.
        objects: constructor arguments made by other parts of the config, e.g. `text_encoder`; a
            dataset is given those that its constructor or that of a base class names.

    Raises:
        ValueError: there is no such dataset, or it can't be built.
        FileNotFoundError: a file that it needs is missing.
    """
    check_name(config, name, "config, datasets")
    kind = target_class(config.datasets, name)
    if issubclass(kind, MixedDataset):
        objects["corpora"] = build_corpora(config, name, objects)
    named = arguments_of(kind)
    return build(config.datasets, name, **{k: v for k, v in objects.items() if k in named})


def build_corpora(config: DictConfig, name: str, objects: dict[str, Any]) -> dict[str, Any]:
    """The datasets that `config.datasets.<name>` is mixed of, by name.

    Args:
        config: an experiment's.
        name: of the mixed dataset.
        objects: constructor arguments; each dataset has a `seed` of its own.

    Raises:
        ValueError: there is no such dataset, it can't be mixed or built, or has a bad weight.
        FileNotFoundError: a file that one needs is missing.
    """
    place = f"config, datasets.{name}.weights"
    weights = plain(config.datasets[name].get("weights"))
    if not isinstance(weights, dict):
        refuse(place, weights, "a mapping of datasets to their weights")
    corpora = {}
    try:
        kept = check_weights(weights)
    except ValueError as error:
        raise ValueError(f"config, datasets.{name}.{error}") from None
    for corpus in kept:
        check_name(config, corpus, place)
        if issubclass(target_class(config.datasets, corpus), MixedDataset):
            refuse(place, corpus, "a dataset that isn't mixed itself")
        own = {"seed": salted_seed(objects["seed"], corpus)} if "seed" in objects else {}
        corpora[corpus] = build_dataset(config, corpus, **(objects | own))
    return corpora


def check_name(config: DictConfig, name: str, place: str) -> None:
    """Check that there is a dataset of a name.

    Raises:
        ValueError: there is none; begins with `place`.
    """
    if config.datasets.get(name) is None:
        names = ", ".join(str(key) for key in config.datasets if config.datasets[key] is not None)
        raise ValueError(f"{place}: no '{name}', only {names or 'none'}.")


def arguments_of(kind: type) -> set[str]:
    """The arguments that the constructors of a class and its base classes name."""
    constructors = [base.__dict__["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
    return {name for one in constructors for name in inspect.signature(one).parameters}
