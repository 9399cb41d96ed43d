"""Means of named values."""

from collections.abc import Mapping, Sequence


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each value over the rows that have it."""
    names = dict.fromkeys(key for row in rows for key in row)
    values = {key: [row[key] for row in rows if key in row] for key in names}
    return {key: sum(own) / len(own) for key, own in values.items()}
