"""Which rows of a manifest are kept, and the hours that are dropped, with the reasons."""

import logging
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from src.datasets.manifest import Manifest
from src.datasets.row_index import SHOW_PROGRESS_FROM, keep_column, kept_column, read_blocks
from src.text_encoder.base import TextEncoder

logger = logging.getLogger(__name__)

BLOCK_ROWS = 1 << 14  # whose texts are encoded at a time
COUNTED_ROWS = 1 << 20  # whose frames are counted at a time
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
    needed = frames_of_rows(manifest, encoder)
    passes = np.empty(len(manifest), dtype=bool)
    for start in range(0, len(manifest), COUNTED_ROWS):  # in parts, to bound the memory
        some = slice(start, start + COUNTED_ROWS)
        samples = np.round(manifest.durations[some] * sample_rate).astype(np.int64)
        passes[some] = count_frames(samples) >= needed[some]
    return [(passes, TOO_FEW_FRAMES)]


def count_for_each(manifest: Manifest, count: Callable[[int], int]) -> np.ndarray:
    """`count(index)` of each row, [N], with a progress bar for many rows."""
    rows = range(len(manifest))
    few = len(rows) < SHOW_PROGRESS_FROM
    bar = tqdm(rows, desc=f"texts of {manifest.path.name}", disable=few)
    return np.fromiter(map(count, bar), np.int64, len(rows))


class TextBlocks:
    """Parts of a manifest, each read as the frames that CTC needs for the texts of its rows.

    Args:
        manifest: of the rows.
        encoder: with the vocabulary.
        rows: indices of the rows, [n].
    """

    def __init__(self, manifest: Manifest, encoder: TextEncoder, rows: np.ndarray):
        self.manifest, self.encoder, self.rows = manifest, encoder, rows

    def __len__(self) -> int:
        return -(-len(self.rows) // BLOCK_ROWS)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """`frames` of each row; and `error`: what is wrong with the first bad text, or None."""
        rows = self.rows[i * BLOCK_ROWS : (i + 1) * BLOCK_ROWS]
        texts = self.manifest.texts(rows)
        try:
            return {"frames": self.encoder.frames_needed(texts), "error": None}
        except ValueError:
            for row, text in zip(rows.tolist(), texts, strict=True):
                try:
                    self.encoder.encode(text)
                except ValueError as error:
                    return {"error": f"{self.manifest.place(row)}: {error}"}
            raise


def frames_of_rows(manifest: Manifest, encoder: TextEncoder) -> np.ndarray:
    """The frames that CTC needs for the text of each row, [N]; of large manifests they are kept.

    Raises:
        ValueError: a text has a character outside the vocabulary; names the line.
    """
    normalizer = encoder.normalizer.describe() if encoder.normalizer else None
    name = encoder.checksum(encoder.describe() | {"normalizer": normalizer})[:16]
    lines = np.asarray(manifest.lines)
    needed = kept_column(manifest.source, f"frames_{name}", lines)
    missing = np.flatnonzero(needed < 0)
    workers = os.cpu_count() or 1 if len(missing) >= SHOW_PROGRESS_FROM else 0
    blocks = TextBlocks(manifest, encoder, missing)
    manifest.release()  # or its pages would count beside the memory of the workers
    first, title = 0, f"texts of {manifest.path.name}"
    for block in read_blocks(blocks, workers, title, len(missing) < SHOW_PROGRESS_FROM):
        if block["error"]:
            raise ValueError(block["error"])
        frames = block["frames"]
        needed[missing[first : first + len(frames)]] = frames
        first += len(frames)
    if len(missing):
        keep_column(manifest.source, f"frames_{name}", lines, needed)
    return needed


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
