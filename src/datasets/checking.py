"""Finding every bad row of a manifest, instead of stopping at the first."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import soundfile

from src.datasets.filters import frames_needed
from src.datasets.manifest import check_row
from src.text_encoder.base import TextEncoder
from src.utils.audio import audio_info

TOLERANCE = 0.05  # seconds by which a row's duration may miss the file's


def find_faults(
    path: Path, encoder: TextEncoder, frames_per_second: float
) -> Iterator[tuple[int, str | None]]:
    """Check each row of a manifest.

    Args:
        path: of the manifest.
        encoder: knows the vocabulary.
        frames_per_second: that the model puts out, for what CTC can align.

    Yields:
        The number of a line, and what is wrong with it, or None.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, find_fault(line, path, encoder, frames_per_second)


def find_fault(line: str, path: Path, encoder: TextEncoder, rate: float) -> str | None:
    """What is wrong with one row, or None."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError:
        return "not JSON"
    checks: list[Callable[[], None]] = [
        lambda: keys(values),
        lambda: audio(values, path.parent),
        lambda: text(values, encoder, rate),
    ]
    for check in checks:
        try:
            check()
        except (ValueError, FileNotFoundError) as error:
            return str(error).rstrip(".")
    return None


def keys(values: dict) -> None:
    """The keys that a row must have."""
    check_row(values, "row")


def audio(values: dict, folder: Path) -> None:
    """The file: there, readable to its end, and as long as the row says."""
    path = folder / values["audio_filepath"]
    info = audio_info(path)
    if info.frames == 0:
        raise ValueError(f"{path}: a header without audio")
    end = (values.get("offset") or 0.0) + values["duration"]
    whole = values.get("offset") is None
    if end > info.duration + TOLERANCE or (whole and end < info.duration - TOLERANCE):
        raise ValueError(
            f"{path}: lasts {info.duration:.2f} s, the row says {values['duration']:.2f} s"
            + ("" if whole else f" from {values['offset']:.2f} s on")
        )
    try:
        samples, _ = soundfile.read(path, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    if len(samples) < info.frames:
        raise ValueError(f"{path}: truncated, {len(samples)} of {info.frames} samples")
    if not samples.any():
        raise ValueError(f"{path}: nothing but silence")


def text(values: dict, encoder: TextEncoder, rate: float) -> None:
    """The transcript: in the vocabulary, and not too long for the audio."""
    if values.get("text") is None:
        return
    if not encoder.normalize(values["text"]):
        raise ValueError("an empty text")
    needed = frames_needed(encoder.encode(values["text"]))
    frames = int(values["duration"] * rate)
    if frames < needed:
        raise ValueError(f"impossible for CTC: the text needs {needed} frames of {frames}")
