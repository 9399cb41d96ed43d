"""Sections of NeMo's model configs, and checks of their values."""

from typing import Any

from src.utils.options import shown


def section_of(config: dict[str, Any], name: str, *kinds: str) -> dict[str, Any]:
    """A section of a model config.

    Args:
        config: of a model.
        name: of the section.
        kinds: names of the classes that it may be of; none: any.

    Raises:
        ValueError: it is missing, or of another class.
    """
    section = config.get(name)
    if not isinstance(section, dict):
        raise ValueError(f"{name} is missing.")
    if "cls" in section and isinstance(section.get("params"), dict):  # of NeMo before 1.0
        section = {"_target_": section["cls"], **section["params"]}
    target = str(section.get("_target_"))
    if kinds and target.rpartition(".")[2] not in kinds:
        raise ValueError(f"{name}._target_: {target} is not supported, only {kinds[0]}.")
    return section


def check_plain(values: Any, place: str) -> None:
    """Check that values of a file, which go on into a config, can't refer to anything in it.

    A mapping with `_target_` would be instantiated, and `${...}` resolved.

    Raises:
        ValueError: one could; names its place.
    """
    if isinstance(values, dict):
        for key, value in values.items():
            if not isinstance(key, str) or key.startswith("_") or "$" in key:
                raise ValueError(f"{place}: {shown(key)} is no key of plain values.")
            check_plain(value, f"{place}.{key}")
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            check_plain(value, f"{place}[{number}]")
    elif isinstance(values, str) and "$" in values:
        raise ValueError(f"{place}: {shown(values)}; no '$' is allowed.")
    elif not isinstance(values, str | int | float | bool | None):
        raise ValueError(f"{place}: {shown(values)} is no plain value.")


def class_of(section: dict[str, Any]) -> str:
    """Name of the class that a section is of, without its module."""
    return str(section.get("_target_")).rpartition(".")[2]


def check_fixed(section: dict[str, Any], fixed: dict[str, Any], name: str = "") -> None:
    """Check that parameters of which one value is supported have this value or are not set.

    Raises:
        ValueError: one has another value.
    """
    for key, wanted in fixed.items():
        if section.get(key, wanted) != wanted:
            path = f"{name}.{key}" if name else key
            raise ValueError(f"{path}: {section[key]} is not supported, only {wanted}.")


def check_known(section: dict[str, Any], known: set[str], name: str) -> None:
    """Check that all parameters of a section are known.

    Raises:
        ValueError: one is not.
    """
    for key in section:
        if key not in known:
            raise ValueError(f"{name}.{key}: unknown parameter.")


def plain(value: Any) -> Any:
    """Copy of a value with lists instead of tuples, for YAML."""
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value
