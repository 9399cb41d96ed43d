"""From a node of the config to an object, and what may be changed about the config of a run."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from src.utils.annotations import TARGET, check_types
from src.utils.nodes import (
    check_node,
    check_resolved,
    explain,
    locate,
    place_of,
    plain,
    root_cause,
)
from src.utils.options import refuse

CONFIGS = Path(__file__).parent / "configs"
DEFAULT = "asr_deepspeech2"  # the experiment of train.py without -cn
ELSEWHERE = ("-cp", "--config-path", "-cd", "--config-dir")  # hydra's options for other configs
FIXED = (
    "model",
    "features",
    "cleaning",
    "text_encoder",
    "init",
    "optimizer",
    "optimizers",
    "scheduler",
    "seed",
    "trainer.average",
    "sample_rate",
    "transforms.batch.inference",
    "trainer.accumulate",  # it and the next say which batches an epoch has
    "dataloader.max_seconds",
    "dataloader.max_items",
)
# Types of the keys of base.yaml, except config groups.
TYPES: dict[str, Any] = {
    "name": str,
    "runs": str,
    "run_dir": str | None,
    "seed": int,
    "sample_rate": int,
    "device": str | None,  # which is refused with the names of devices
    "precision": str | bool,
    "threads": int | None,
    "compile": bool,
    "strategy": str,
    "sync_batch_norm": bool,
    "activation_checkpointing": bool,
    "fit": bool,
    "fit_limits": Mapping,
    "noise": str | None,
    "requeue": list[str],
    "evaluations": Mapping[str, Mapping | None],
    "optimizers": Mapping[str, Mapping | None],
    "report": Mapping,
    "remote": Mapping,
    "vars": Mapping,
    "trust": list[str],
    "next_command": str | None,
    "total_steps": int | None,
}
EVALUATION_TYPES = {"dataset": str | Mapping, "metrics": Mapping, "loss": Any}
REPORT_TYPES = {"audio": str}
FIT_TYPES = {"seconds": float, "memory_gb": float | None}
TRANSFORM_TYPES = {"train": Mapping | None, "inference": Mapping | None}
OPTIMIZER_TYPES = {
    "like": str | None,
    "parts": list[str] | str | None,
    "linear_weights": bool | None,
    "lr_scales": Mapping[str, float] | None,
    "layer_decay": Mapping[str, float] | None,
    "optimizer": Any,  # objects, which are checked when they are built
    "scheduler": Any,
}
# Types of the keys that only configs of inference have; these aren't merged into those of runs.
INFERENCE_TYPES: dict[str, Any] = {
    "run": str | None,
    "checkpoint": str,
    "evaluate_on": list[str] | None,
    "output": str | None,
    "for_task": str | None,
    "report": Mapping,
    "separator": str | None,  # of conversations, as the next two
    "recogniser": str | None,
    "changes": Mapping[str, Mapping],
}
INFERENCE_ONLY = (*INFERENCE_TYPES, "runs", "trust", "hydra")


def build(config: DictConfig, key: str, /, **objects: Any) -> Any:
    """Instantiate what `config.key` describes.

    Args:
        config: the node that holds the key.
        key: name of its child.
        objects: further constructor arguments, built from other parts of the config.

    Returns:
        The object; a dict of objects where the node is a mapping without `_target_`; None where
        it is null.

    Raises:
        ValueError: it can't be instantiated; names the key and the reason.
        FileNotFoundError: a file that it needs is missing.
    """
    place = str(config._get_full_key(key))
    try:
        if config.get(key) is None:
            return None
        for missing in sorted(OmegaConf.missing_keys(config[key])):
            raise ValueError(f"config: {missing}=... must be given.")
        node = plain(config[key])
        check_node(place, node)
        # Hydra resolves what it is given, too: text that a reference gave isn't one itself.
        check_resolved(place, node)
        if not objects:
            return instantiate(node, _convert_="all")
        return instantiate(node, _partial_=True, _convert_="all")(**objects)
    except Exception as error:
        cause = root_cause(error)
        if isinstance(cause, OSError):
            raise cause from None
        raise ValueError(explain(cause, place_of(error, place))) from error


def compose_experiment(name: str, *overrides: str) -> DictConfig:
    """The config of an experiment of this repository, in any program.

    Args:
        name: of a file in src/configs.
        overrides: as on the command line.
    """
    state = GlobalHydra.instance()
    outer, state.hydra = state.hydra, None  # of a program that hydra started
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = compose(name, list(overrides))
            OmegaConf.set_struct(config, False)  # as one that was read from a run
            return config
    finally:
        state.hydra = outer


def require(config: DictConfig, *keys: str) -> None:
    """Check that mappings which every experiment needs are there.

    Raises:
        ValueError: one is null or a plain value.
    """
    for key in keys:
        if not isinstance(OmegaConf.select(config, key), DictConfig):
            value = OmegaConf.select(config, key)
            place = config._get_full_key(key)
            raise ValueError(f"config, {place}: {value}; this experiment needs one, see --help.")


def target_class(config: DictConfig, key: str) -> Any:
    """The class that `config.key` names.

    Raises:
        ValueError: there is no such class.
    """
    require(config, key)
    place = f"config, {config._get_full_key(key)}"
    found = locate(place, config[key].get(TARGET))
    if not isinstance(found, type):
        refuse(f"{place}.{TARGET}", config[key][TARGET], "the name of a class")
    return found


def check_top_level(config: DictConfig, inference: bool = False) -> None:
    """Check the keys at the top level: those of base.yaml, and config groups.

    An experiment's own values, to be referred to as `${vars.NAME}`, belong into `vars`.

    Args:
        config: an experiment's.
        inference: whether it is one of inference, which has some keys of its own.

    Raises:
        ValueError: it is for the other program, a key is unknown, so that it would be ignored, or
            its value has another type.
    """
    if ("for_task" in config) != inference:  # which each of inference has
        program = "train.py" if inference else "inference.py"
        raise ValueError(f"config, -cn: this experiment is one for {program}.")
    groups = {path.name for path in CONFIGS.iterdir() if path.is_dir()}
    own = TYPES | (INFERENCE_TYPES if inference else {})
    for key in config:
        if key not in groups and key not in own:
            raise ValueError(f"config, {key!s}: no such key; your own values belong into vars.")
    present = [str(key) for key in config if not OmegaConf.is_missing(config, key)]
    check_types("config", own, {key: plain(config[key]) for key in present if key in own})
    if config.get("datasets") is not None:
        require(config, "datasets")
    for name, dataset in (config.get("datasets") or {}).items():
        if not isinstance(dataset, DictConfig | None):
            refuse(f"config, datasets.{name}", plain(dataset), "a mapping with _target_, or null")
    for group, entries in (("evaluations", EVALUATION_TYPES), ("optimizers", OPTIMIZER_TYPES)):
        for name, entry in (config.get(group) or {}).items():
            check_types(f"config, {group}.{name}", entries, plain(entry) or {})
    check_types("config, report", REPORT_TYPES, plain(config.get("report")) or {})
    check_types("config, fit_limits", FIT_TYPES, plain(config.get("fit_limits")) or {})
    if isinstance(config.get("transforms"), DictConfig):
        kinds = dict.fromkeys(("batch", "instance"), Mapping)
        check_types("config, transforms", kinds, plain(config.transforms))
        for kind, uses in config.transforms.items():
            check_types(f"config, transforms.{kind}", TRANSFORM_TYPES, plain(uses))


def check_noise_is_used(config: DictConfig, overrides: Sequence[str]) -> None:
    """Check that noise which the command line asks for is added somewhere.

    Args:
        config: of an experiment.
        overrides: of the command line.

    Raises:
        ValueError: nothing refers to `noise`.
    """
    given = any(override.lstrip("+").startswith("noise=") for override in overrides)
    if not given or config.noise is None or "debug=overfit" in overrides:  # which augments nothing
        return
    if "${noise}" not in OmegaConf.to_yaml(config):
        raise ValueError(
            f"config, noise: nothing adds {config.noise}; take transforms with noise, e.g. "
            "transforms=asr_small, or set it where it's added, e.g. "
            "datasets.train.noises.noise.manifest."
        )


def check_mergeable(config: Any, changes: Any, place: str = "") -> None:
    """Check that mappings meet mappings in a merge; a list can't be set entry by entry.

    Raises:
        ValueError: one is.
    """
    if isinstance(config, ListConfig) and isinstance(changes, DictConfig):
        refuse(f"config, {place}", plain(changes), "a list, which can only be given whole")
    if isinstance(config, DictConfig) and isinstance(changes, ListConfig):
        refuse(f"config, {place}", plain(changes), "a mapping")
    if isinstance(config, DictConfig) and isinstance(changes, DictConfig):
        for name in changes:
            if name in config and not OmegaConf.is_missing(config, name):
                key = f"{place}.{name!s}" if place else str(name)
                check_mergeable(config._get_node(name), changes._get_node(name), key)


# The config of a run --------------------------------------------------------------------


def resume_config(config: DictConfig, overrides: list[str], experiment: str | None = None) -> None:
    """Set single values of the config of a run that is resumed.

    Args:
        config: the run's own; changed in place.
        overrides: of the command line.
        experiment: name of the one that the command line chooses; None: not known.

    Raises:
        ValueError: an override chooses a group, a key that the run's config doesn't have, or one
            that its weights or optimizer state depend on; or the run is of another experiment.
    """
    own, known = config.get("name"), experiments()  # other names are a user's
    if experiment not in (own, DEFAULT) and experiment in known and own in known:
        raise ValueError(f"config, -cn: {experiment}; the run is one of {own}, so leave -cn out.")
    for override in parse_overrides(overrides):
        key = override.key_or_group
        if key == "trainer.resume_from" or override.is_delete() and key.startswith("hydra"):
            continue
        for fixed in FIXED:
            if f"{key}.".startswith(f"{fixed}."):
                raise ValueError(f"config, {key}: a run is resumed with its own {fixed}.")
        if OmegaConf.select(config, key, default=config) is config or override.is_delete():
            raise ValueError(f"config, {key}: not in the config of the run to be resumed.")
        old, value = OmegaConf.select(config, key), override.value()
        whole = isinstance(old, DictConfig) and not isinstance(value, dict)
        if whole or (isinstance(old, ListConfig) and isinstance(value, str)):
            raise ValueError(
                f"config, {key}: a run is resumed with its own {key}; set single values."
            )
        OmegaConf.update(config, key, override.value())


def experiments() -> list[str]:
    """Names of the experiments in src/configs, those of inference too."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "base")


def experiment_for(task: str) -> str | None:
    """Name of the inference config for runs of a task, if there is one."""
    paths = sorted(CONFIGS.glob("inference_*.yaml"))
    tasks = {path.stem: OmegaConf.select(OmegaConf.load(path), "for_task") for path in paths}
    return next((name for name, own in tasks.items() if own == task), None)


OmegaConf.register_new_resolver("experiments", lambda: ", ".join(experiments()), replace=True)


def check_overrides(arguments: Sequence[str]) -> None:
    """Check that a command line names an experiment, and a name or names for each config group.

    Hydra refuses others as well, without saying which there are, or which group is meant.

    Args:
        arguments: of the command line; what isn't an override is passed over.

    Raises:
        ValueError: there is no such experiment, or a choice is something else.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-cn", "--config-name")
    parser.add_argument("-c", "--cfg")  # or argparse would take -c for the beginning of -cn
    name = parser.parse_known_args(arguments)[0].config_name
    elsewhere = any(one.startswith(ELSEWHERE) for one in arguments)
    if name and not elsewhere and not (CONFIGS / f"{name.removesuffix('.yaml')}.yaml").is_file():
        refuse("config, -cn", name, f"one of {', '.join(experiments())}")
    given = [one for one in arguments if "=" in one and not one.startswith("-")]
    for override in parse_overrides(given):
        group = override.key_or_group.partition("@")[0]
        folder = CONFIGS / group
        if not group or not folder.is_dir() or override.is_sweep_override():
            continue
        value = override.value()
        names = value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) for name in names) and not override.is_delete():
            options = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
            refuse(f"config, {group}", value, f"one of {options}; ~{group} leaves it out")


def parse_overrides(overrides: list[str]) -> list[Override]:
    """Hydra's overrides, parsed."""
    return OverridesParser.create().parse_overrides(overrides)


def inference_config(config: DictConfig, changes: DictConfig | None) -> DictConfig:
    """A run's config with an inference config merged into it.

    Args:
        config: the run's own.
        changes: an inference experiment of src/configs; a dataset with a `_target_` replaces that
            of its name, also in the evaluation of its name, else its values do. None changes
            nothing.
    """
    if changes is None:
        return config
    changes = OmegaConf.masked_copy(changes, [str(k) for k in changes if k not in INFERENCE_ONLY])
    check_mergeable(config, changes)
    datasets = changes.pop("datasets", None)
    merged = OmegaConf.merge(config, changes)
    if not isinstance(merged, DictConfig):
        raise ValueError("config: not a mapping.")
    if datasets is not None:
        whole = [name for name, one in datasets.items() if one is None or "_target_" in one]
        kept = [str(name) for name in merged.datasets if name not in whole]
        merged.datasets = OmegaConf.merge(OmegaConf.masked_copy(merged.datasets, kept), datasets)
        given = changes.get("evaluations") or {}
        for name in whole:
            evaluation = (merged.get("evaluations") or {}).get(name) or {}
            if "dataset" not in (given.get(name) or {}):
                evaluation.pop("dataset", None)
    return merged
