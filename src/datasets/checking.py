"""Finding every bad row of a manifest, instead of stopping at the first."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from src.datasets.filters import frames_needed
from src.datasets.manifest import check_row, find_lines, map_file, parse
from src.text_encoder.base import TextEncoder
from src.utils.audio import audio_info, full_duration, read_audio

TOLERANCE = 0.05  # seconds by which a row's duration may miss the file's
TOGETHER = 256  # rows read at a time


def find_faults(
    path: Path, encoder: TextEncoder, frames_per_second: float
) -> Iterator[tuple[int, str | None]]:
    """Check each row of a manifest, with a progress bar.

    Args:
        path: of the manifest.
        encoder: knows the vocabulary.
        frames_per_second: that the model puts out, for what CTC can align.

    Yields:
        The number of a line, and what is wrong with it, or None.

    Raises:
        FileNotFoundError: there is no such manifest.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such manifest.")
    data = map_file(path)
    starts, ends, numbers = find_lines(data)

    def fault(i: int) -> str | None:
        return find_fault(data[starts[i] : ends[i]], path.parent, encoder, frames_per_second)

    bar = tqdm(total=len(numbers), desc=path.name, unit="row", disable=None)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(numbers), TOGETHER):
            rows = range(first, min(first + TOGETHER, len(numbers)))
            for i, found in zip(rows, pool.map(fault, rows), strict=True):
                bar.update()
                yield int(numbers[i]), found


def find_fault(line: bytes, folder: Path, encoder: TextEncoder, rate: float) -> str | None:
    """What is wrong with one row, or None; the first that is found, where it is much."""
    try:
        values = check_row(parse(line))
    except ValueError as error:
        return str(error).rstrip(".")
    checks: list[Callable[[], None]] = [
        lambda: check_audio(values, folder),
        lambda: check_text(values, encoder, rate),
    ]
    for check in checks:
        try:
            check()
        except (ValueError, FileNotFoundError) as error:
            return str(error).rstrip(".")
    return None


def check_audio(values: dict, folder: Path) -> None:
    """The audio of a row.

    Raises:
        FileNotFoundError: it isn't there.
        ValueError: it isn't readable to its end, not as long as the row says, or silent.
    """
    path, offset, duration = folder / values["audio_filepath"], values.get("offset"), None
    full_duration(path)
    if offset is not None:  # one utterance of several, perhaps
        duration = values["duration"]
    rate = audio_info(path).rate
    samples = read_audio(path, rate, offset or 0.0, duration)
    found = len(samples) / rate
    if abs(found - values["duration"]) > TOLERANCE:
        place = "" if offset is None else f" from second {offset:g} on"
        raise ValueError(
            f"{path}: lasts {found:.2f} s{place}, the row says {values['duration']:.2f} s"
        )
    if not samples.any():
        raise ValueError(f"{path}: nothing but silence")


def check_text(values: dict, encoder: TextEncoder, rate: float) -> None:
    """The transcript of a row, if it has one.

    Raises:
        ValueError: it is empty, outside the vocabulary, or too long for CTC.
    """
    text = values.get("text")
    if text is None:
        return
    if not encoder.normalize(text):
        raise ValueError(f"an empty text, {text!r}")
    needed = frames_needed(encoder.encode(text))
    frames = int(values["duration"] * rate)
    if frames < needed:
        raise ValueError(f"impossible for CTC: the text needs {needed} frames of {frames}")
