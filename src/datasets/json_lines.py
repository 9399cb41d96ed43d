"""Lines of JSON, parsed one by one or many at once."""

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

DECODE = json.JSONDecoder().decode
BYTES = 1 << 18  # that are parsed at once, since long rows become many times as large
MARK = secrets.randbits(63)  # between two lines; no file contains it


def parse(line: bytes) -> Any:
    """The JSON value of a line.

    Raises:
        ValueError: it isn't JSON, or nested too deeply.
    """
    try:
        return DECODE(line.decode("utf-8"))
    except ValueError:
        raise ValueError("not JSON.") from None
    except RecursionError:
        raise ValueError("not JSON that can be read: nested too deeply.") from None


def parse_all(lines: Sequence[bytes]) -> Iterator[Any]:
    """The JSON values of some lines; many short lines are parsed in a third of the time.

    Raises:
        ValueError: when a line is reached that isn't JSON, or nested too deeply.
    """
    longest = max(map(len, lines), default=0)
    count = max(1, BYTES // max(1, longest))
    for first in range(0, len(lines), count):
        some = lines[first : first + count]
        values = parse_together(some) if count > 1 else None
        yield from map(parse, some) if values is None else values


def parse_together(lines: Sequence[bytes]) -> list[Any] | None:
    """The JSON values of some lines, parsed as one list; None unless each line is one value.

    Between the lines the list has a number that they can't contain. If a line didn't end its value,
    or had several, the numbers would not be every other item.

    Args:
        lines: at least one.
    """
    joined = (b",%d," % MARK).join(lines)
    try:
        values = DECODE(f"[{joined.decode('utf-8')}]")
    except (ValueError, RecursionError):
        return None
    marks = [MARK] * (len(lines) - 1)
    return values[::2] if len(values) == 2 * len(lines) - 1 and values[1::2] == marks else None
