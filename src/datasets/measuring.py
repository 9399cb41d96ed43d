"""Measurements of the samples of every row of a manifest, made once and kept beside it."""

import logging
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from src.datasets.manifest import Manifest
from src.datasets.speech_detection import SpeechDetector
from src.utils.audio import read_audio
from src.utils.audio_files import audio_info
from src.utils.files import write_beside

logger = logging.getLogger(__name__)

CHUNK = 2048  # rows measured at a time
GROWTH = 1.1  # what is known is written when it is so many times as much
FULL_SCALE = 0.999  # absolute values from here on are clipped
NOTHING = -1.0  # start and end where there is no speech

Measure = Callable[[Tensor, int], tuple[float, ...]]  # (samples [T], sample rate) -> values


def trim_silence(manifest: Manifest, detector: SpeechDetector, skip: bool) -> Manifest:
    """The rows without the silence at both ends; logs how much that is.

    Rows without speech, and those that can't be read, stay as they are.

    Args:
        manifest: of the recordings.
        detector: of the speech.
        skip: files that can't be read are passed over instead of an error.

    Raises:
        ValueError: a file isn't readable; names the line.
    """

    def measure(audio: Tensor, sample_rate: int) -> tuple[float, float]:
        return detector.find(audio, sample_rate) or (NOTHING, NOTHING)

    start, end = measured(manifest, detector.name(), 2, measure, skip).T
    found = end > 0  # not where it is NaN, either
    start = np.where(found, np.maximum(start - detector.margin, 0), 0)
    end = np.where(found, np.minimum(end + detector.margin, manifest.durations), manifest.durations)
    trimmed = manifest.trim(start, np.maximum(end - start, 0.0))
    saved = manifest.durations - trimmed.durations
    logger.info(
        "%s: trimmed silence of %d of %d rows, %.3f of %.3f h; %d rows without speech left as "
        "they are",
        manifest.path,
        (saved > 0).sum(),
        len(manifest),
        saved.sum() / 3600,
        manifest.durations.sum() / 3600,
        (~found).sum(),
    )
    return trimmed


def clipped_fractions(manifest: Manifest, skip: bool) -> np.ndarray:
    """The fraction of the samples of each row that are at full scale, [N]; 0 of unreadable files.

    Args:
        manifest: of the recordings, whose silence isn't trimmed yet.
        skip: files that can't be read are passed over instead of an error.

    Raises:
        ValueError: a file isn't readable; names the line.
    """

    def measure(audio: Tensor, _: int) -> tuple[float]:
        return (float((audio.abs() >= FULL_SCALE).float().mean()),)

    return np.nan_to_num(measured(manifest, "clipped", 1, measure, skip)[:, 0])


def measured(manifest: Manifest, name: str, size: int, measure: Measure, skip: bool) -> np.ndarray:
    """Values of each row, [N, size]; NaN of unreadable files.

    They are kept in the file `<manifest>.<name>.npz` as long as the manifest stays the same, unless
    its folder can't be written; now and then while they are measured, too. Shows a progress bar.

    Args:
        manifest: of the recordings.
        name: of the measurement, with its parameters.
        size: number of values of a row.
        measure: called with the samples [T] of a row, at their own sample rate.
        skip: files that can't be read are passed over instead of an error.

    Raises:
        ValueError: a file isn't readable; names the line.
    """
    beside = manifest.path.with_name(f"{manifest.path.name}.{name}.npz")
    cache = beside if manifest.path.is_file() else None  # not of a manifest in memory
    digest = np.frombuffer(manifest.source.digest(), np.uint8)
    lines = np.asarray(manifest.lines, np.int64)
    known = read_cache(cache, digest, (int(lines.max(initial=0)) + 1, size))
    missing = np.flatnonzero(np.isnan(known[lines]).any(1))

    def values(index: int) -> tuple[float, ...]:
        row = manifest[index]
        try:
            rate = audio_info(row.audio_filepath).sample_rate
            return measure(read_audio(row.audio_filepath, rate, row.offset, row.duration), rate)
        except (ValueError, FileNotFoundError) as error:
            if skip:
                return (np.nan,) * size
            raise ValueError(f"{manifest.place(index)}: {error}") from None

    done = kept = len(lines) - len(missing)
    bar = tqdm(total=len(missing), desc=f"{name} of {manifest.path.name}", disable=None)
    try:
        with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(0, len(missing), CHUNK):
                rows = missing[first : first + CHUNK]
                for index, found in zip(rows, pool.map(values, rows.tolist()), strict=True):
                    known[lines[index]] = found
                    bar.update()
                done += len(rows)
                if done > GROWTH * kept:  # each time would be quadratic
                    cache, kept = write_cache(cache, digest, known), done
    finally:
        if done > kept:
            write_cache(cache, digest, known)
    return known[lines]


def read_cache(path: Path | None, digest: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """What is known of each line, of at least some shape; NaN where nothing is.

    Args:
        path: of the file; None: there is none.
        digest: of the manifest that it has to be about.
        shape: lines and values.
    """
    known = np.full(shape, np.nan)
    if path is None or not path.is_file():
        return known
    try:
        with np.load(path, allow_pickle=False) as file:
            values = file["values"]
            if not np.array_equal(file["digest"], digest) or values.shape[1:] != shape[1:]:
                return known
            known = np.full((max(len(values), shape[0]), shape[1]), np.nan)
            known[: len(values)] = values
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        logger.warning("%s: not readable; measured anew.", path)
    return known


def write_cache(path: Path | None, digest: np.ndarray, known: np.ndarray) -> Path | None:
    """Write what is known of each line; the path, or None if it can't be written.

    Args:
        path: of the file; None: it isn't written.
        digest: of the manifest.
        known: values of each line, NaN where unknown.
    """
    if path is None:
        return None
    try:
        with write_beside(path) as beside, beside.open("wb") as file:
            np.savez(file, digest=digest, values=known)
    except OSError as error:
        reason = error.strerror or error  # that of a full disk is only a sentence
        logger.warning("%s: could not be written (%s); measured each time.", path, reason)
        return None
    return path
