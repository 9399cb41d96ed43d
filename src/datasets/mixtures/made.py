"""Mixtures that are made on the fly as the scripts of their corpora make them."""

import math
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.datasets.base_dataset import Item
from src.datasets.manifest import UNSAFE, Row
from src.datasets.mixtures.folders import Mixtures
from src.utils.audio_files import full_duration, open_audio
from src.utils.options import shown
from src.utils.random import generator, uniform

SAMPLE_RATE = 16000  # Hz, of WSJ0, LibriSpeech and WHAM!'s noises
MODES = ("min", "max")
LOUDEST = 1e6  # gain that is still believed


class MadeMixtures(Mixtures):
    """Items {id, path, seed, audio [T], sources [S, T]}; nothing is stored.

    Rows have the name of the mixture as `mixture`, and what `mix` needs.

    Args:
        options: of `Mixtures`.
    """

    def item_id(self, row: Row, index: int) -> str:
        """The name of the mixture in the metadata."""
        return UNSAFE.sub("_", row.extra["mixture"])

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """A mixture and its sources, or the segment of them."""
        mixture, targets = self.mix(row)
        audio = torch.from_numpy(mixture).float()
        sources = torch.from_numpy(np.stack(targets)).float()
        if self.segment is not None:
            size = round(self.segment * self.sample_rate)
            if len(audio) > size:
                start = int(uniform(generator(seed, "segment"), 0, len(audio) - size + 1))
                audio, sources = audio[start : start + size], sources[:, start : start + size]
        return {
            "id": id,
            "path": str(row.audio_filepath),
            "seed": seed,
            "audio": audio,
            "sources": sources,
        }

    @abstractmethod
    def mix(self, row: Row) -> tuple[np.ndarray, list[np.ndarray]]:
        """A mixture [T] and its sources, each [T], at the dataset's sample rate."""


def read_at_16k(
    path: Path, start: int = 0, stop: int | None = None, channel: int = 0
) -> np.ndarray:
    """One channel of a recording at 16 kHz, [T], float32.

    Args:
        path: of the recording.
        start: the first sample that is read.
        stop: the one behind the last; None: the end.
        channel: which, from 0; a mono file has only one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be read, has no samples there, has fewer channels, or another sample
            rate.
    """
    with open_audio(path) as file:
        if file.samplerate != SAMPLE_RATE:
            raise ValueError(
                f"{path}: {file.samplerate} Hz; mixtures are made of {SAMPLE_RATE} Hz."
            )
        if file.channels > 1 and channel >= file.channels:
            raise ValueError(f"{path}: {file.channels} channels; wanted channel {channel + 1}.")
        file.seek(min(start, file.frames))
        frames = -1 if stop is None else max(stop - start, 0)
        samples = file.read(frames, dtype="float32", always_2d=True)
        channel = channel if file.channels > 1 else 0
    if not len(samples):
        where = "a header without audio" if not start else f"ends before sample {start}"
        raise ValueError(f"{path}: {where}.")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: has samples that are not finite numbers.")
    return samples[:, channel]


def listed_duration(place: str, path: Path) -> float:
    """Seconds of a recording that a list names.

    Args:
        place: file and line of the list, for the message.
        path: of the recording.

    Raises:
        FileNotFoundError: there is no such file; names the line.
        ValueError: it isn't readable as audio; names the line.
    """
    try:
        return full_duration(path)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{place}: {error}") from None


def number(place: str, name: str, value: Any, most: float = LOUDEST) -> float:
    """A number of a list or of metadata.

    Args:
        place: file and line, for the message.
        name: what it is, for the message.
        value: the number, or its text.
        most: bound of its absolute value.

    Raises:
        ValueError: it is no finite number below the bound.
    """
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if isinstance(value, bool) or not abs(result) < most:
        raise ValueError(f"{place}: {name} is {shown(value)}, wanted a number below {most:g}.")
    return result


def check_unique(places: list[str], names: list[str], key: str) -> None:
    """Check that the names of mixtures are unique.

    Args:
        places: file and line of each, for the message.
        names: of the mixtures.
        key: what the name is called there.

    Raises:
        ValueError: two have the same name; names the second.
    """
    seen: set[str] = set()
    for place, name in zip(places, names, strict=True):
        if name in seen:
            raise ValueError(f"{place}: {key} {shown(name)} occurs twice.")
        seen.add(name)


def fit(parts: list[np.ndarray], mode: str) -> list[np.ndarray]:
    """Signals cut to the shortest (mode min) or padded with zeros to the longest (max)."""
    lengths = [len(part) for part in parts]
    if mode == "min":
        return [part[: min(lengths)] for part in parts]
    return [np.pad(part, (0, max(lengths) - len(part))) for part in parts]
