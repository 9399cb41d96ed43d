"""Nodes of the config that describe objects: checked before they are built, explained after."""

import re
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from src.utils.annotations import TARGET, check_arguments
from src.utils.entry import config_sentence, is_of_config, is_out_of_memory
from src.utils.options import refuse, shown

HYDRA_KEYS = (TARGET, "_args_", "_convert_", "_partial_", "_recursive_")


def plain(node: Any) -> Any:
    """A node of the config as plain containers and values."""
    if isinstance(node, DictConfig | ListConfig):
        return OmegaConf.to_container(node, resolve=True)
    return node


def check_resolved(place: str, node: Any) -> None:
    """Check that no key or text of a plain node refers to something, now that it is resolved.

    Raises:
        ValueError: one does; names the key.
    """
    if isinstance(node, dict | list):
        for name in node if isinstance(node, dict) else range(len(node)):
            check_resolved(f"{place}.{name}", name)
            check_resolved(f"{place}.{name}", node[name])
    elif isinstance(node, str) and "${" in node:
        refuse(place, node, "no text with '${', except for a reference")


def check_node(place: str, node: Any) -> None:
    """Check that a node describes an object with arguments of the right types, or several objects.

    Args:
        place: its key in the config.
        node: plain; a mapping with `_target_`, or a mapping of such mappings and nulls.

    Raises:
        ValueError: it is something else; names the key.
    """
    if not isinstance(node, dict):
        refuse(f"config, {place}", node, "a mapping with _target_, or null")
    if TARGET not in node:
        for name, child in node.items():
            if child is not None:
                check_node(f"{place}.{name}", child)
        return
    arguments = {name: value for name, value in node.items() if name not in HYDRA_KEYS}
    check_arguments(f"config, {place}", locate(f"config, {place}", node[TARGET]), arguments)
    for name, value in arguments.items():
        check_nested(f"{place}.{name}", value)


def check_nested(place: str, value: Any) -> None:
    """Check the objects that the arguments of an object describe."""
    if isinstance(value, dict) and TARGET in value:
        check_node(place, value)
    elif isinstance(value, dict | list):
        names = value if isinstance(value, dict) else range(len(value))
        for name in names:
            check_nested(f"{place}.{name}", value[name])


def locate(place: str, name: Any) -> Any:
    """The class or function of a `_target_`.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        if isinstance(name, str):
            return get_object(name)
    except Exception as error:  # whatever its module raises when it is imported
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{place}._target_: '{name}' can't be imported ({reason[-1]}).") from error
    raise ValueError(f"{place}._target_: {shown(name)}; the name of a class.")


def place_of(error: Exception, place: str) -> str:
    """The key of the node that couldn't be instantiated, which may be inside of `place`."""
    if isinstance(error, InstantiationException):
        keys = [line for line in str(error).splitlines() if line.startswith("full_key: ")]
        return f"{place}.{keys[-1].removeprefix('full_key: ')}" if keys else place
    return place


def explain(error: BaseException, place: str) -> str:
    """One sentence about an error in the constructor of what stands at a key of the config."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if is_of_config(error):
        return config_sentence(error)  # type: ignore[arg-type]
    if isinstance(error, ValueError):
        text = " ".join(lines)
        if text.startswith("config"):
            return text
        named = text.startswith((f"{place}.", f"{place}:"))
        return f"config, {text}" if named else f"config, {place}: {text}"
    if is_out_of_memory(error):
        return f"config, {place}: needs more memory than there is."
    unknown = re.search(r"unexpected keyword argument '(\w+)'", lines[0])
    if isinstance(error, TypeError) and unknown:
        return f"config, {place}.{unknown[1]}: no such key."
    missing = re.search(r"missing \d+ required .*: (.*)", lines[0])
    if isinstance(error, TypeError) and missing:
        return f"config, {place}: without {missing[1]}, which must be given."
    kind = type(error).__name__
    return f"config, {place}: {kind}: {lines[0]} (TRIPHONE_TRACEBACK=1 shows where)"


def root_cause(error: BaseException) -> BaseException:
    """The error that was raised first, inside those that hydra wraps around it."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error
