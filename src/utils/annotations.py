"""Checks of values from the config against the annotations of what they are passed to."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from src.utils.options import is_finite, refuse

TARGET = "_target_"  # the key by which a mapping stands for an object
UNION = (Union, UnionType)
WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    NoneType: "null",
}
EMPTY = inspect.Parameter.empty
LISTS = (list, tuple, Sequence, Iterable, Collection)
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_arguments(place: str, function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Raise unless values fit the annotated parameters of a class or function.

    Args:
        place: key of the config that holds the values, which messages begin with.
        function: a class, with the parameters of its constructor and, where that takes `**options`,
            of those of its base classes; or a function.
        values: plain values, lists and mappings by parameter. A mapping with `_target_` stands for
            an object, whose class is not compared.

    Raises:
        ValueError: there is no such parameter, or its value has another type; names the key.
    """
    hints, complete = parameters_of(function)
    if not complete:
        values = {name: value for name, value in values.items() if name in hints}
    check_types(place, hints, values)


def check_types(place: str, hints: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise unless every value fits its annotation.

    Args:
        place: what messages begin with, e.g. `config, optimizers.main`; `config` for the top level.
        hints: annotations by name.
        values: plain values, lists and mappings by name.

    Raises:
        ValueError: a name has no annotation, or its value another type; names the key.
    """
    for name, value in values.items():
        key = f"{place}, {name}" if place == "config" else f"{place}.{name}"
        if name not in hints:
            raise ValueError(f"{key}: no such key, only {', '.join(hints) or 'none'}.")
        if not fits(value, hints[name]):
            refuse_part(key, value, hints[name])


def parameters_of(function: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Annotations by parameter, and whether these are all that it takes."""
    if not isinstance(function, type):
        return own_parameters(function)
    hints: dict[str, Any] = {}
    for base in function.__mro__:
        if "__init__" in vars(base):
            own, complete = own_parameters(base.__init__)  # type: ignore[misc]
            hints = own | hints
            if complete:
                return hints, base is not object or is_dataclass(function)
    return hints, False


def own_parameters(function: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Annotations of a function's own parameters, and whether it takes no `**options`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # some functions written in C
        return {}, False
    try:
        hints = get_type_hints(function)
    except Exception:  # a name that exists for type checkers only
        hints = {}
    named = [p.name for p in parameters if p.kind not in VARIADIC and p.name != "self"]
    complete = all(p.kind not in VARIADIC for p in parameters)
    return {name: hints.get(name, EMPTY) for name in named}, complete


def refuse_part(key: str, value: Any, hint: Any) -> None:
    """Raise the error of a value that doesn't fit, or of the entry of it that doesn't.

    Raises:
        ValueError: always.
    """
    kinds = [one for one in get_args(hint) if not is_none(one)] if is_union(hint) else [hint]
    kind, arguments = get_origin(kinds[0]) or kinds[0], get_args(kinds[0])
    if len(kinds) == 1 and arguments:
        if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, Mapping):
            for name, entry in value.items():
                if not fits(entry, arguments[1]):
                    refuse_part(f"{key}.{name}", entry, arguments[1])
        elif is_list(value) and kind in LISTS and kind is not tuple:
            for number, entry in enumerate(value):
                if not fits(entry, arguments[0]):
                    refuse_part(f"{key}.{number}", entry, arguments[0])
    refuse(key, value, describe(hint))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from the config may be meant for an annotation; floats must be finite."""
    arguments = get_args(hint)
    kind = get_origin(hint) or hint
    if is_union(hint):
        return any(fits(value, one) for one in arguments)
    if kind is Literal:
        return any(value == one and type(value) is type(one) for one in arguments)
    if kind in (None, NoneType):
        return value is None
    if not isinstance(kind, type) or isinstance(kind, TypeVar) or kind in (Any, EMPTY, object):
        return True
    if kind in (int, float, bool, str) or issubclass(kind, Path):
        return fits_plain(value, kind)
    if isinstance(value, Mapping) and TARGET in value:
        return kind not in (*LISTS, dict, Mapping)
    if issubclass(kind, Mapping):
        of = arguments[1] if len(arguments) == 2 else Any
        return isinstance(value, Mapping) and all(fits(one, of) for one in value.values())
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        return is_list(value) and len(value) == len(arguments) and all(map(fits, value, arguments))
    if kind in LISTS:
        of = arguments[0] if arguments else Any
        return is_list(value) and all(fits(one, of) for one in value)
    return isinstance(value, Mapping)  # an object; a mapping of objects for a class such as Chain


def fits_plain(value: Any, kind: type) -> bool:
    """Whether a value is a number, a bool or a text, as wanted."""
    if kind is float:
        return is_finite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, bool if kind is bool else str)


def is_list(value: Any) -> bool:
    """Whether a value is a list or a tuple."""
    return isinstance(value, list | tuple)


def describe(hint: Any) -> str:
    """The values that an annotation allows, in words."""
    arguments, kind = get_args(hint), get_origin(hint) or hint
    if is_union(hint):
        plain = [one for one in arguments if one in WORDS or is_none(one)] or arguments
        if any(not is_none(one) for one in plain):  # objects, too, are allowed, but not usual
            arguments = tuple(one for one in arguments if one in plain or get_origin(one))
        words = dict.fromkeys(describe(one) for one in sorted(arguments, key=is_none))
        return " or ".join(words)
    if kind is Literal:
        return " or ".join(str(one) for one in arguments)
    if kind in WORDS:
        return WORDS[kind]
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a mapping" + (f" to {describe(arguments[1])}" if len(arguments) == 2 else "")
    if kind in LISTS:
        return "a list" + of_what(kind, [one for one in arguments if one is not Ellipsis])
    if isinstance(kind, type) and kind not in (Any, object, EMPTY):
        return f"a mapping with {TARGET}, of a {kind.__name__}"
    return "any value"


def is_union(hint: Any) -> bool:
    """Whether an annotation is one of several alternatives."""
    return (get_origin(hint) or hint) in UNION


def is_none(hint: Any) -> bool:
    """Whether an annotation is that of None."""
    return hint in (None, NoneType)


def of_what(kind: Any, arguments: list[Any]) -> str:
    """What a list consists of, in words."""
    if not arguments:
        return ""
    count = f"{len(arguments)}, each " if kind is tuple and len(arguments) > 1 else ""
    return f" of {count}{describe(arguments[0])}"
