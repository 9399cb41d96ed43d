"""Which rows of a manifest are kept, and how many hours are dropped why."""

import logging
from collections.abc import Callable

import numpy as np
from tqdm.auto import tqdm

from src.datasets.manifest import SHOW_PROGRESS_FROM, Manifest
from src.text_encoder.base import TextEncoder

logger = logging.getLogger(__name__)

MANY = 0.1  # share of the rows from which on what CTC can't align is warned of
TOO_FEW_FRAMES = "fewer frames than CTC needs for the text; take subwords or less subsampling"

Rule = tuple[np.ndarray, str]  # which rows pass [N], and why the others don't
CountFrames = Callable[[np.ndarray], np.ndarray]


def keep_rows(manifest: Manifest, rules: list[Rule]) -> Manifest:
    """The rows that pass all rules; logs for each rule what it dropped of the rest."""
    keep = np.ones(len(manifest), dtype=bool)
    for passes, reason in rules:
        dropped = keep & ~passes
        if dropped.any():
            hours = manifest.durations[dropped].sum() / 3600
            many = dropped.sum() > MANY * len(manifest)
            logger.log(
                logging.WARNING if many and reason == TOO_FEW_FRAMES else logging.INFO,
                "%s: dropped %d of %d rows, %.3f h: %s",
                manifest.path,
                dropped.sum(),
                len(manifest),
                hours,
                reason,
            )
        keep &= passes
    return manifest if keep.all() else manifest.select(keep)


def rows_of(durations: np.ndarray, seconds: float) -> np.ndarray:
    """Drawn rows of at most so many seconds in all: their indices, in order.

    Raises:
        ValueError: there isn't so much, or not even one row fits.
    """
    if seconds > durations.sum() + 1e-6:
        raise ValueError(
            f"dataset: minutes {seconds / 60:g}, but there are only {durations.sum() / 60:.1f}."
        )
    order = np.random.default_rng(0).permutation(len(durations))
    fitting = int((durations[order].cumsum() <= seconds).sum())
    if not fitting:
        raise ValueError(f"dataset: minutes {seconds / 60:g} hold no utterance.")
    return np.sort(order[:fitting])


def duration_rules(durations: np.ndarray, low: float | None, high: float | None) -> list[Rule]:
    """Durations between two bounds, in seconds."""
    rules: list[Rule] = []
    if low is not None:
        rules.append((durations >= low, f"shorter than {low:g} s"))
    if high is not None:
        rules.append((durations <= high, f"longer than {high:g} s"))
    return rules


def text_length_rules(manifest: Manifest, low: int | None, high: int | None) -> list[Rule]:
    """Texts between two bounds, in characters as they stand in the manifest."""
    if low is None and high is None:
        return []
    length = count_for_each(manifest, lambda i: len(text_of(manifest, i)))
    rules: list[Rule] = []
    if low is not None:
        rules.append((length >= low, f"text shorter than {low} characters"))
    if high is not None:
        rules.append((length <= high, f"text longer than {high} characters"))
    return rules


def alignment_rules(
    manifest: Manifest, encoder: TextEncoder, count_frames: CountFrames, sample_rate: int
) -> list[Rule]:
    """Texts that CTC can align with the frames that the model puts out.

    Raises:
        ValueError: a text has a character outside the vocabulary; names the line.
    """
    needed = count_for_each(manifest, lambda i: frames_needed(encode(manifest, i, encoder)))
    samples = np.round(manifest.durations * sample_rate).astype(np.int64)
    frames = count_frames(samples)
    return [(frames >= needed, TOO_FEW_FRAMES)]


def count_for_each(manifest: Manifest, count: Callable[[int], int]) -> np.ndarray:
    """A number for each row of its index, [N]; shows its progress through many rows."""
    rows = range(len(manifest))
    few = len(rows) < SHOW_PROGRESS_FROM
    bar = tqdm(rows, desc=f"texts of {manifest.path.name}", disable=few)
    return np.fromiter(map(count, bar), np.int64, len(rows))


def frames_needed(ids: list[int]) -> int:
    """The fewest frames in which CTC can align labels: one each, and a blank between repeats."""
    return len(ids) + sum(a == b for a, b in zip(ids, ids[1:], strict=False))


def text_of(manifest: Manifest, index: int) -> str:
    """The text of a row, or an empty one."""
    return manifest.values(index).get("text") or ""


def encode(manifest: Manifest, index: int, encoder: TextEncoder) -> list[int]:
    """The token ids of a row."""
    try:
        return encoder.encode(text_of(manifest, index))
    except ValueError as error:
        raise ValueError(f"{manifest.place(index)}: {error}") from None


def all_have_text(manifest: Manifest) -> bool:
    """Whether every row has a transcript; logs how many don't if only some do."""
    missing = int((~manifest.has_text).sum())
    if 0 < missing < len(manifest):
        logger.warning(
            "%s: %d of %d rows have no text, so there are no scores.",
            manifest.path,
            missing,
            len(manifest),
        )
    return missing == 0
