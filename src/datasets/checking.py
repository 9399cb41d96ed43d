"""Finding every bad row of a manifest, instead of stopping at the first."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm.auto import tqdm

from src.datasets.json_lines import parse
from src.datasets.manifest import check_row
from src.datasets.row_index import find_lines, map_file
from src.text_encoder.base import TextEncoder, frames_needed
from src.utils.audio import read_audio
from src.utils.audio_files import audio_info, full_duration
from src.utils.options import check_number, shown
from src.utils.shard_sample import audio_place

TOLERANCE = 0.05  # seconds; largest difference between the durations of row and file
CHUNK = 256  # rows checked in parallel


def find_errors(
    path: Path, encoder: TextEncoder, frames_per_second: float
) -> Iterator[tuple[int, str | None]]:
    """Line number and error message (None for a valid row) of each row of a manifest.

    Shows a progress bar.

    Args:
        path: of the manifest.
        encoder: with the vocabulary.
        frames_per_second: output frames of the model, for the CTC check.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: it is no regular file, has no rows, or `frames_per_second` isn't above 0.
    """
    check_number("frames_per_second", frames_per_second)
    data = map_file(path)
    starts, ends, numbers = find_lines(data)
    if not len(numbers):
        raise ValueError(f"{path}: no rows.")

    def check(i: int) -> str | None:
        return find_error(data[starts[i] : ends[i]], path.parent, encoder, frames_per_second)

    bar = tqdm(total=len(numbers), desc=path.name, unit="row", disable=None)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(numbers), CHUNK):
            rows = range(first, min(first + CHUNK, len(numbers)))
            for i, message in zip(rows, pool.map(check, rows), strict=True):
                bar.update()
                yield int(numbers[i]), message


def find_error(
    line: bytes, folder: Path, encoder: TextEncoder, frames_per_second: float
) -> str | None:
    """The error message of a row of a manifest; None for a valid row.

    Args:
        line: of the manifest.
        folder: that audio paths are relative to.
        encoder: with the vocabulary.
        frames_per_second: output frames of the model.
    """
    try:
        values = check_row(parse(line))
        check_audio(values, folder)
        check_text(values, encoder, frames_per_second)
    except (ValueError, OSError) as error:
        return str(error).rstrip(".")
    return None


def check_audio(values: dict, folder: Path) -> None:
    """Read the audio of a row to its end.

    Args:
        values: of the row.
        folder: that its path is relative to.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable, has another duration than the row, or is silent.
    """
    path, offset, duration = audio_place(values, folder), values.get("offset"), None
    full_duration(path)
    if offset is not None:  # the file may contain several utterances
        duration = values["duration"]
    sample_rate = audio_info(path).sample_rate
    samples = read_audio(path, sample_rate, offset or 0.0, duration)
    seconds = len(samples) / sample_rate
    if abs(seconds - values["duration"]) > TOLERANCE:
        place = "" if offset is None else f" from second {offset:g} on"
        raise ValueError(
            f"{path}: lasts {seconds:.2f} s{place}, the row says {values['duration']:.2f} s"
        )
    if not samples.any():
        raise ValueError(f"{path}: only silence")


def check_text(values: dict, encoder: TextEncoder, frames_per_second: float) -> None:
    """Check the transcript of a row, if it has one.

    Args:
        values: of the row.
        encoder: with the vocabulary.
        frames_per_second: output frames of the model.

    Raises:
        ValueError: it is empty, outside the vocabulary, or too long for CTC.
    """
    text = values.get("text")
    if text is None:
        return
    if not encoder.normalize(text):
        raise ValueError(f"an empty text, {shown(text)}")
    needed = frames_needed(encoder.encode(text))
    frames = int(values["duration"] * frames_per_second)
    if frames < needed:
        raise ValueError(f"impossible for CTC: the text needs {needed} frames of {frames}")
