"""Which rows of a manifest are kept, and the hours that are dropped, with the reasons."""

import logging
from collections.abc import Callable

import numpy as np
from tqdm.auto import tqdm

from src.datasets.manifest import Manifest
from src.datasets.row_index import SHOW_PROGRESS_FROM
from src.text_encoder.base import TextEncoder

logger = logging.getLogger(__name__)

MANY = 0.1  # fraction of the rows; dropping more because of CTC is worth a warning
TOO_FEW_FRAMES = "fewer frames than CTC needs for the text; take subwords or less subsampling"

Rule = tuple[np.ndarray, str]  # which rows pass [N], and why the others don't
CountFrames = Callable[[np.ndarray], np.ndarray]  # samples -> output frames of the model


def keep_rows(manifest: Manifest, rules: list[Rule]) -> Manifest:
    """The rows that pass all rules; logs for each rule what it dropped of the rest.

    Raises:
        ValueError: no rows are left; says how many each rule dropped.
    """
    keep = np.ones(len(manifest), dtype=bool)
    reasons = []
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
            reasons.append(f"{dropped.sum()} {reason}")
        keep &= passes
    if not keep.any():
        why = f": {', '.join(reasons)}" if reasons else ""
        raise ValueError(f"{manifest.path}: no utterances left of {len(manifest)}{why}.")
    return manifest if keep.all() else manifest.select(keep)


def rows_of(durations: np.ndarray, seconds: float) -> np.ndarray:
    """Indices, in order, of randomly drawn rows of at most `seconds` in all.

    Raises:
        ValueError: all rows together are shorter, or not even one row fits.
    """
    if seconds > durations.sum() + 1e-6:
        raise ValueError(f"minutes: {seconds / 60:g}; a number up to {durations.sum() / 60:.1f}.")
    order = np.random.default_rng(0).permutation(len(durations))
    fitting = int((durations[order].cumsum() <= seconds).sum())
    if not fitting:
        raise ValueError(f"minutes: {seconds / 60:g}; too few for the first one drawn.")
    return np.sort(order[:fitting])


def duration_rules(durations: np.ndarray, low: float | None, high: float | None) -> list[Rule]:
    """Rules that keep durations between two bounds, in seconds."""
    rules: list[Rule] = []
    if low is not None:
        rules.append((durations >= low, f"shorter than {low:g} s"))
    if high is not None:
        rules.append((durations <= high, f"longer than {high:g} s"))
    return rules


def text_length_rules(manifest: Manifest, low: int | None, high: int | None) -> list[Rule]:
    """Rules that keep texts between two bounds, in characters as they stand in the manifest."""
    if low is None and high is None:
        return []
    length = np.maximum(manifest.text_lengths, 0)
    rules: list[Rule] = []
    if low is not None:
        rules.append((length >= low, f"text shorter than {low} characters"))
    if high is not None:
        rules.append((length <= high, f"text longer than {high} characters"))
    return rules


def speaking_rate_rules(manifest: Manifest, low: float | None, high: float | None) -> list[Rule]:
    """Rules that keep speaking rates between two bounds, in characters per second.

    Characters are those of the text as it stands in the manifest, seconds those of the row, without
    silence that was trimmed.
    """
    if low is None and high is None:
        return []
    length = np.maximum(manifest.text_lengths, 0)
    rate = length / manifest.durations
    rules: list[Rule] = []
    if low is not None:
        rules.append((rate >= low, f"slower than {low:g} characters per second"))
    if high is not None:
        rules.append((rate <= high, f"faster than {high:g} characters per second"))
    return rules


def clipping_rule(clipped: np.ndarray, high: float) -> Rule:
    """The rule that keeps rows with at most a fraction of clipped samples.

    Args:
        clipped: fraction of the samples of each row that are at full scale, [N].
        high: largest fraction that is kept.
    """
    return clipped <= high, f"clipped, more than {high:g} of the samples at full scale"


def alignment_rules(
    manifest: Manifest, encoder: TextEncoder, count_frames: CountFrames, sample_rate: int
) -> list[Rule]:
    """Rules that keep texts which CTC can align with the output frames of the model.

    Raises:
        ValueError: a text has a character outside the vocabulary; names the line.
    """
    needed = count_for_each(manifest, lambda i: frames_needed(encode(manifest, i, encoder)))
    samples = np.round(manifest.durations * sample_rate).astype(np.int64)
    frames = count_frames(samples)
    return [(frames >= needed, TOO_FEW_FRAMES)]


def count_for_each(manifest: Manifest, count: Callable[[int], int]) -> np.ndarray:
    """`count(index)` of each row, [N], with a progress bar for many rows."""
    rows = range(len(manifest))
    few = len(rows) < SHOW_PROGRESS_FROM
    bar = tqdm(rows, desc=f"texts of {manifest.path.name}", disable=few)
    return np.fromiter(map(count, bar), np.int64, len(rows))


def frames_needed(ids: list[int]) -> int:
    """Fewest frames in which CTC can align labels: one for each, and a blank between repeats."""
    return len(ids) + sum(a == b for a, b in zip(ids, ids[1:], strict=False))


def text_of(manifest: Manifest, index: int) -> str:
    """The text of a row; an empty one if it has none."""
    return manifest.values(index).get("text") or ""


def encode(manifest: Manifest, index: int, encoder: TextEncoder) -> list[int]:
    """The token ids of a row."""
    try:
        return encoder.encode(text_of(manifest, index))
    except ValueError as error:
        raise ValueError(f"{manifest.place(index)}: {error}") from None


def check_all_or_none(manifest: Manifest, has: np.ndarray, name: str) -> bool:
    """Whether every row has something; some with and some without are an error.

    Args:
        manifest: of the rows.
        has: which rows have it, [N].
        name: what it is, for the message.

    Raises:
        ValueError: only some rows have it; names the first one that doesn't.
    """
    if has.all() or not has.any():
        return bool(has.all())
    first = int(np.flatnonzero(~has)[0])
    audio = manifest.values(first)["audio_filepath"]
    raise ValueError(
        f"{manifest.place(first)}: '{audio}' has no {name}, but {has.sum()} of {len(has)} rows "
        f"have; wanted a {name} for every row, or for none."
    )
