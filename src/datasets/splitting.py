"""Splits of a manifest that stay as they are when rows are added."""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any
from unicodedata import category, normalize

import numpy as np

from src.datasets.manifest import Manifest
from src.utils.options import is_finite, shown

Values = dict[str, Any]


def split_by_hash(
    manifest: Manifest, key: Callable[[Values], str], fractions: Mapping[str, float], seed: int = 0
) -> dict[str, list[Values]]:
    """Rows by split, where all rows of one key are in the same.

    The split of a key follows from a hash of it alone, so added rows move no others. For few keys
    the splits are only roughly as large as wanted.

    Args:
        manifest: the rows.
        key: of a row's values: `speaker_of` or `sentence_of`.
        fractions: name of the split -> fraction of the keys.
        seed: gives other splits.

    Raises:
        ValueError: the fractions aren't above 0 with a sum of 1, a row has no key, or a split has
            no rows.
    """
    check_fractions(fractions)
    limits = list(accumulate(fractions.values()))[:-1]
    names = list(fractions)
    splits: dict[str, list[Values]] = {name: [] for name in names}
    for values, own in keyed(manifest, key):
        splits[names[bisect_right(limits, position(own, seed))]].append(values)
    check_filled(manifest, splits, "another seed or other fractions may help")
    return splits


def part_by_hash(
    manifest: Manifest, key: Callable[[Values], str], limits: tuple[float, float]
) -> Manifest:
    """The rows whose keys' positions are in a range, as of `position`; others stay apart.

    Args:
        manifest: the rows.
        key: of a row's values: `speaker_of` or `sentence_of`.
        limits: the range, from 0 to 1, without its end.
    """
    low, high = limits
    inside = [low <= position(own, 0) < high for _, own in keyed(manifest, key)]
    return manifest.select(np.array(inside, dtype=bool))


def split_by_duration(
    manifest: Manifest, names: list[str], limits: list[float]
) -> dict[str, list[Values]]:
    """Rows by split, the shortest in the first, e.g. to test on longer recordings.

    Args:
        manifest: the rows.
        names: of the splits.
        limits: in seconds, ascending, between a split and the next, to which the limit belongs.

    Raises:
        ValueError: the limits don't fit the names, or a split has no rows.
    """
    ascending = all(a < b for a, b in zip([0.0, *limits], limits, strict=False))
    if len(limits) != len(names) - 1 or not all(map(is_finite, limits)) or not ascending:
        raise ValueError(
            f"limits: {shown(limits)}; {len(names) - 1} ascending seconds for {', '.join(names)}."
        )
    splits: dict[str, list[Values]] = {name: [] for name in names}
    for i, seconds in enumerate(manifest.durations.tolist()):
        splits[names[bisect_right(limits, seconds)]].append(manifest.values(i))
    check_filled(manifest, splits, "other limits may help")
    return splits


def check_fractions(fractions: Mapping[str, float]) -> None:
    """Raise unless there are two fractions or more, above 0 and with a sum of 1."""
    values = list(fractions.values())
    valid = len(values) > 1 and all(is_finite(value) and value > 0 for value in values)
    if not valid or abs(sum(values) - 1) > 1e-9:
        raise ValueError(f"fractions: {shown(dict(fractions))}; numbers above 0, the sum is 1.")


def check_filled(manifest: Manifest, splits: Mapping[str, list[Values]], advice: str) -> None:
    """Raise unless every split has rows."""
    if not len(manifest):
        raise ValueError(f"{manifest.path}: no rows.")
    for name, rows in splits.items():
        if not rows:
            raise ValueError(f"{manifest.path}: no rows for {name}; {advice}.")


def keyed(manifest: Manifest, key: Callable[[Values], str]) -> Iterable[tuple[Values, str]]:
    """The values of each row, and its key.

    Raises:
        ValueError: a row has none; names the line.
    """
    for i in range(len(manifest)):
        values = manifest.values(i)
        try:
            own = key(values)
        except ValueError as error:
            raise ValueError(f"{manifest.place(i)}: {error}") from None
        yield values, own


def position(key: str, seed: int) -> float:
    """A number in [0, 1) that looks random, but is always the same for a key."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def speaker_of(values: Values) -> str:
    """The speaker of a row."""
    if not values.get("speaker"):
        raise ValueError(f"speaker is {shown(values.get('speaker'))}, wanted a text.")
    return values["speaker"]


def sentence_of(values: Values) -> str:
    """The words of a row's text, which is the same sentence in any case and punctuation."""
    words = words_of(values)
    if not words:
        raise ValueError(f"text is {shown(values.get('text'))}, wanted a sentence.")
    return " ".join(words)


def words_of(values: Values) -> list[str]:
    """The words of a row's text, as of `words_in`."""
    return words_in(values.get("text") or "")


def words_in(text: str) -> list[str]:
    """The words of a text in lower case and NFC, without punctuation."""
    return "".join(c if in_word(c) else " " for c in normalize("NFC", text.lower())).split()


def in_word(character: str) -> bool:
    """Whether it is a letter, a digit or a mark that combines with one, as vowels of Hindi are."""
    return character.isalnum() or category(character).startswith("M")


def shared(splits: Mapping[str, list[Values]], key: Callable[[Values], str]) -> int | None:
    """How many keys are in more than one split; None where a row has none."""
    try:
        own = [{key(values) for values in rows} for rows in splits.values()]
    except ValueError:
        return None
    return sum(count > 1 for count in Counter(name for names in own for name in names).values())
