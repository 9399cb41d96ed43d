"""Checks of option values; their messages name the key, the value and the values allowed."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

SHOWN = 60  # characters of a value in a message
NUMBERS = (int, float)  # `int | float` would be made anew in each call
WORDS = {None: "null", True: "true", False: "false"}


def shown(value: Any) -> str:
    """A value as text for a message: as in YAML, or `repr`; some 60 characters, safe to print."""
    if value is None or isinstance(value, bool):
        return WORDS[value]
    text = ascii(value) if has_surrogates(value) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 20]}...{text[-10:]}"


def has_surrogates(value: Any) -> bool:
    """Whether a value is a str that can't be encoded as UTF-8."""
    if not isinstance(value, str) or value.isascii():
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def check_whole(
    key: str, value: Any, low: int = 1, high: int | None = None, optional: bool = False
) -> None:
    """Raise unless a value is a whole number in a range.

    Args:
        key: what the message names, e.g. `dataloader.max_items`.
        value: as it stands in the config.
        low: smallest value allowed.
        high: largest value allowed; None: any.
        optional: whether None is allowed too.

    Raises:
        ValueError: it isn't.
    """
    if optional and value is None:
        return
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if whole and value >= low and (high is None or value <= high):
        return
    allowed = "above 0" if low == 1 else f"from {low} on"
    if high is not None:
        allowed = f"from {low} to {high}"
    refuse(key, value, f"a whole number {allowed}", optional)


def check_number(
    key: str,
    value: Any,
    low: float = 0.0,
    high: float = math.inf,
    inclusive: bool = False,
    optional: bool = False,
) -> None:
    """Raise unless a value is a finite number in a range.

    Args:
        key: what the message names, e.g. `dataloader.max_seconds`.
        value: as it stands in the config.
        low: lower bound.
        high: upper bound, itself allowed.
        inclusive: whether the lower bound itself is allowed.
        optional: whether None is allowed too.

    Raises:
        ValueError: it isn't.
    """
    if optional and value is None:
        return
    if is_finite(value) and (low < value or (inclusive and low == value)) and value <= high:
        return
    allowed = f"from {low:g} on" if inclusive else f"above {low:g}"
    if low == -math.inf:
        allowed = "that is finite"
    elif high < math.inf:
        allowed = f"from {low:g} to {high:g}" if inclusive else f"{allowed}, up to {high:g}"
    refuse(key, value, f"a number {allowed}", optional)


def check_sizes(owner: str, **sizes: Any) -> None:
    """Raise unless all arguments of a constructor are whole numbers above 0.

    Args:
        owner: name of the class, which messages begin with.
        sizes: values by argument name.

    Raises:
        ValueError: one is something else.
    """
    for name, value in sizes.items():
        check_whole(f"{owner}.{name}", value)


def check_drop_probabilities(owner: str, **probabilities: Any) -> None:
    """Raise unless all arguments of a constructor are probabilities below 1.

    Args:
        owner: name of the class, which messages begin with.
        probabilities: of dropping something in training, by argument name.

    Raises:
        ValueError: one is something else.
    """
    for name, value in probabilities.items():
        if not is_finite(value) or not 0 <= value < 1:
            refuse(f"{owner}.{name}", value, "a number from 0 to less than 1")


def check_choice(key: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise unless a value is one of some.

    Raises:
        ValueError: it isn't.
    """
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return
    names = [c if isinstance(c, str) else shown(c) for c in choices]
    others = f"{', '.join(names[:-1])} or " if len(names) > 1 else ""
    refuse(key, value, f"{others}{names[-1]}")


def is_finite(value: Any) -> bool:
    """Whether a value is an int or float within float64's range, and neither NaN nor a bool."""
    if isinstance(value, bool) or not isinstance(value, NUMBERS):
        return False
    return -1.7e308 < value < 1.7e308


def refuse(key: str, value: Any, allowed: str, optional: bool = False) -> None:
    """Raise the error of a bad value.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{key}: {shown(value)}; {allowed}{', or null' if optional else ''}.")


def check_labels(key: str, labels: Any) -> list[str]:
    """The names of classes as a list, if there are two or more.

    Args:
        key: what the message names, e.g. `model.labels`.
        labels: as they stand in the config.

    Raises:
        ValueError: they are fewer, or not different texts.
    """
    own = list(labels) if isinstance(labels, Sequence) and not isinstance(labels, str) else []
    if len(own) < 2 or not all(isinstance(one, str) and one for one in own):
        refuse(key, labels, "a list of two or more texts")
    for i, one in enumerate(own):
        if one in own[:i]:
            refuse(key, labels, f"different texts, not {shown(one)} twice")
    return own
