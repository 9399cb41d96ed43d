"""LibriMix (Cosentino et al., arXiv 2005.11262), mixed on the fly from its published metadata."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import resample_poly
from tqdm.auto import tqdm

from src.datasets.base_dataset import Item
from src.datasets.manifest import UNSAFE, Manifest, Row
from src.datasets.mixtures import Mixtures
from src.datasets.tables import cell, check_columns, read_table
from src.utils.audio_files import full_duration, open_audio
from src.utils.options import check_choice, shown
from src.utils.random import generator, uniform

SAMPLE_RATE = 16000  # Hz, of LibriSpeech and of the noises
MIXTURES = ("mix_clean", "mix_both", "mix_single")
MODES = ("min", "max")
LOUDEST = 1e6  # gain that is still believed


class LibriMix(Mixtures):
    """Items {id, path, seed, audio [T], sources [S, T]}, as the published scripts make them.

    Nothing is stored: for each row of the metadata the utterances (and the noise) are read, scaled
    by their gains, resampled, cut to the shortest or padded to the longest, and added.

    Args:
        metadata: CSV of LibriMix, e.g. libri2mix_train-clean-100.csv.
        librispeech: folder that the paths of the metadata are relative to.
        wham: folder of the noises; not needed for mix_clean.
        mixture: mix_clean, mix_both (with noise) or mix_single (one speaker and noise).
        mode: min or max.
        segment: seconds that are cut at a random place; None: all.
        options: of `Mixtures`; `sample_rate` is 16000 or a lower one.

    Raises:
        FileNotFoundError: the metadata or a recording is missing.
        ValueError: an option has a bad value, or the metadata lack a column or a value.
    """

    def __init__(
        self,
        metadata: str,
        librispeech: str,
        wham: str | None = None,
        mixture: str = "mix_clean",
        mode: str = "min",
        segment: float | None = None,
        **options: Any,
    ):
        check_choice("LibriMix: mixture", mixture, MIXTURES)
        check_choice("LibriMix: mode", mode, MODES)
        if mixture != "mix_clean" and wham is None:
            raise ValueError(f"LibriMix: wham: null; the folder of the noises, for {mixture}.")
        self.mixture, self.mode = mixture, mode
        if options.get("sample_rate", SAMPLE_RATE) > SAMPLE_RATE:
            raise ValueError(
                f"LibriMix: sample_rate: {options['sample_rate']}; at most {SAMPLE_RATE} Hz."
            )
        folders = (Path(librispeech).absolute(), Path(wham).absolute() if wham else None)
        path = Path(metadata)
        rows = find_rows(path, *folders, mode)
        super().__init__(Manifest.from_rows(rows, path), segment=segment, **options)

    def item_id(self, row: Row, index: int) -> str:
        """The name of the mixture in the metadata."""
        return UNSAFE.sub("_", row.extra["mixture"])

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """A mixture and its sources."""
        parts = [read(Path(path)) for path in row.extra["sources"]]
        gains = list(row.extra["gains"])
        if self.mixture != "mix_clean":
            longest = max(map(len, parts))
            noise = Path(row.extra["noise"])
            parts.append(extended(read(noise, longest), longest, noise))
            gains.append(row.extra["noise_gain"])
        scaled = [part * gain for part, gain in zip(parts, gains, strict=True)]
        resampled = [resample_poly(part, self.sample_rate, SAMPLE_RATE) for part in scaled]
        fitted = fit(resampled, self.mode)
        num_sources = 1 if self.mixture == "mix_single" else len(row.extra["sources"])
        others = fitted[len(row.extra["sources"]) :]
        audio = torch.from_numpy(np.sum(fitted[:num_sources] + others, axis=0)).float()
        sources = torch.from_numpy(np.stack(fitted[:num_sources])).float()
        if self.segment is not None and len(audio) > (
            size := round(self.segment * self.sample_rate)
        ):
            start = int(uniform(generator(seed, "segment"), 0, len(audio) - size + 1))
            audio, sources = audio[start : start + size], sources[:, start : start + size]
        return {
            "id": id,
            "path": str(row.audio_filepath),
            "seed": seed,
            "audio": audio,
            "sources": sources,
        }


def find_rows(
    metadata: Path, librispeech: Path, wham: Path | None, mode: str
) -> list[dict[str, Any]]:
    """Rows of a manifest, one for each mixture of the metadata."""
    lines = read_table(metadata, ",")
    columns = list(lines[0]) if lines else []
    sources = sum(name.startswith("source_") and name.endswith("_path") for name in columns)
    wanted = ["mixture_ID"]
    for k in range(1, max(sources, 1) + 1):
        wanted += [f"source_{k}_path", f"source_{k}_gain"]
    wanted += ["noise_path", "noise_gain"] if wham else []
    check_columns(metadata, lines, tuple(wanted))
    rows = []
    for line in tqdm(lines, desc=metadata.name, unit="mixture"):
        row = make_row(metadata, line, librispeech, sources, mode)
        if wham is not None:
            row["noise"] = str(wham / cell(metadata, line, "noise_path"))
            row["noise_gain"] = gain(metadata, line, "noise_gain")
        rows.append(row)
    check_unique(metadata, lines)
    return rows


def make_row(
    metadata: Path, line: dict, librispeech: Path, sources: int, mode: str
) -> dict[str, Any]:
    """The row of a mixture without noise; the lengths of the files decide its duration."""
    numbers = range(1, sources + 1)
    paths = [librispeech / cell(metadata, line, f"source_{k}_path") for k in numbers]
    durations = [full_duration(path) for path in paths]
    return {
        "audio_filepath": str(paths[0]),
        "duration": min(durations) if mode == "min" else max(durations),
        "mixture": cell(metadata, line, "mixture_ID"),
        "sources": [str(path) for path in paths],
        "gains": [gain(metadata, line, f"source_{k}_gain") for k in numbers],
    }


def gain(metadata: Path, line: dict, column: str) -> float:
    """The factor in a cell.

    Raises:
        ValueError: it is no finite number.
    """
    text = cell(metadata, line, column)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < LOUDEST:
        raise ValueError(
            f"{metadata}, line {line['line']}: {column} is {shown(text)}, wanted a number "
            f"below {LOUDEST:g}."
        )
    return value


def check_unique(metadata: Path, lines: list[dict]) -> None:
    """Check that the names of mixtures are unique.

    Raises:
        ValueError: two lines have the same name; names the second.
    """
    seen: set[str] = set()
    for line in lines:
        if line["mixture_ID"] in seen:
            raise ValueError(
                f"{metadata}, line {line['line']}: mixture_ID {shown(line['mixture_ID'])} "
                "occurs twice."
            )
        seen.add(line["mixture_ID"])


def read(path: Path, most: int | None = None) -> np.ndarray:
    """The first channel of a recording, [T].

    Args:
        path: of the recording, at 16 kHz.
        most: samples to read at most; None: all.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it can't be read, is empty, or has another sample rate.
    """
    with open_audio(path) as file:
        samples = file.read(-1 if most is None else most, dtype="float32", always_2d=True)
        sample_rate = file.samplerate
    if sample_rate != SAMPLE_RATE:
        raise ValueError(f"{path}: {sample_rate} Hz; LibriMix is made of {SAMPLE_RATE} Hz.")
    if not len(samples):
        raise ValueError(f"{path}: a header without audio.")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: has samples that are not finite numbers.")
    return samples[:, 0]


def extended(noise: np.ndarray, size: int, path: Path) -> np.ndarray:
    """A noise repeated to `size` samples, with crossfades of half a second between repetitions.

    Args:
        noise: [T].
        size: samples.
        path: of the noise, for the message.

    Raises:
        ValueError: the noise is too short for a crossfade.
    """
    window = np.hanning(SAMPLE_RATE + 1)[: SAMPLE_RATE // 2 + 1]
    if len(noise) <= len(window) and len(noise) < size:
        raise ValueError(f"{path}: {len(noise)} samples; a noise needs half a second to be joined.")
    longer, overlap = noise, len(window)
    while len(longer) < size:
        faded = longer[-overlap:] * window[::-1] + noise[:overlap] * window
        longer = np.concatenate([longer[:-overlap], faded, noise[overlap:]])
    return longer[:size]


def fit(parts: list[np.ndarray], mode: str) -> list[np.ndarray]:
    """Signals cut to the shortest (mode min) or padded with zeros to the longest (max)."""
    lengths = [len(part) for part in parts]
    if mode == "min":
        return [part[: min(lengths)] for part in parts]
    return [np.pad(part, (0, max(lengths) - len(part))) for part in parts]
