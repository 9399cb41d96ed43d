"""Datasets from the config."""

import inspect
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from src.config import build, target_class
from src.datasets.dynamic_mixtures import DynamicMixtures
from src.datasets.manifest_dataset import ManifestDataset
from src.datasets.recognition import RecognitionDataset

# Base class of datasets -> the one of them that reads any manifest.
READERS: dict[type, type] = {RecognitionDataset: ManifestDataset, DynamicMixtures: DynamicMixtures}


def name_datasets(config: DictConfig) -> None:
    """Enter the datasets that evaluations describe themselves into `config.datasets`.

    An evaluation names a dataset, or describes its own: by a mapping with `_target_`, or by a
    manifest FILE.jsonl that is read as the dataset `test` is.

    Args:
        config: an experiment's, changed in place.

    Raises:
        ValueError: there is another dataset of the name of such an evaluation, or `test` reads no
            manifests.
    """
    for name, evaluation in config.evaluations.items():
        dataset = (evaluation or {}).get("dataset")
        place = f"config, evaluations.{name}.dataset"
        if isinstance(dataset, str) and dataset.endswith(".jsonl"):
            dataset = like_test_set(config, dataset, place)
        if not isinstance(dataset, DictConfig):
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
        ValueError: `test` is neither of utterances nor of their mixtures.
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
    if config.datasets.get(name) is None:
        names = ", ".join(str(key) for key in config.datasets if config.datasets[key] is not None)
        raise ValueError(f"config, datasets: no '{name}', only {names or 'none'}.")
    named = arguments_of(target_class(config.datasets, name))
    return build(config.datasets, name, **{k: v for k, v in objects.items() if k in named})


def arguments_of(kind: type) -> set[str]:
    """The arguments that the constructors of a class and its base classes name."""
    constructors = [base.__dict__["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
    return {name for one in constructors for name in inspect.signature(one).parameters}
