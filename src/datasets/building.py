"""Datasets from the config."""

import inspect
from typing import Any

from omegaconf import DictConfig

from src.config import build, target_class


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
