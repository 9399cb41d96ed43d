"""LibriMix (Cosentino et al., arXiv 2005.11262), mixed on the fly from its published metadata."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly
from tqdm.auto import tqdm

from src.datasets.manifest import Manifest, Row
from src.datasets.mixtures.made import (
    MODES,
    SAMPLE_RATE,
    MadeMixtures,
    check_unique,
    fit,
    listed_duration,
    number,
    read_at_16k,
)
from src.datasets.tables import cell, check_columns, read_table
from src.utils.options import check_choice

MIXTURES = ("mix_clean", "mix_both", "mix_single")


class LibriMix(MadeMixtures):
    """Items {id, path, seed, audio [T], sources [S, T]}, as the published scripts make them.

    Nothing is stored: for each row of the metadata the utterances (and the noise) are read, scaled
    by their gains, resampled, cut to the shortest or padded to the longest, and added.

    Args:
        metadata: CSV of LibriMix, e.g. libri2mix_train-clean-100.csv.
        librispeech: folder that the paths of the metadata are relative to.
        wham: folder of the noises; not needed for mix_clean.
        mixture: mix_clean, mix_both (with noise) or mix_single (one speaker and noise).
        mode: min or max.
        options: of `MadeMixtures`; `sample_rate` is 16000 or a lower one.

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
        super().__init__(Manifest.from_rows(rows, path), **options)

    def mix(self, row: Row) -> tuple[np.ndarray, list[np.ndarray]]:
        """A mixture [T] and its sources, each [T], at the dataset's sample rate."""
        parts = [read_at_16k(Path(path)) for path in row.extra["sources"]]
        gains = list(row.extra["gains"])
        if self.mixture != "mix_clean":
            longest = max(map(len, parts))
            noise = Path(row.extra["noise"])
            samples = read_at_16k(noise, stop=longest)
            parts.append(extended(samples, longest, noise))
            gains.append(row.extra["noise_gain"])
        scaled = [part * gain for part, gain in zip(parts, gains, strict=True)]
        resampled = [resample_poly(part, self.sample_rate, SAMPLE_RATE) for part in scaled]
        fitted = fit(resampled, self.mode)
        num_sources = 1 if self.mixture == "mix_single" else len(row.extra["sources"])
        others = fitted[len(row.extra["sources"]) :]
        return np.sum(fitted[:num_sources] + others, axis=0), fitted[:num_sources]


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
    rows, places = [], []
    for line in tqdm(lines, desc=metadata.name, unit="mixture"):
        place = f"{metadata}, line {line['line']}"
        row = make_row(metadata, line, place, librispeech, sources, mode)
        if wham is not None:
            row["noise"] = str(wham / cell(metadata, line, "noise_path"))
            row["noise_gain"] = number(place, "noise_gain", cell(metadata, line, "noise_gain"))
        rows.append(row)
        places.append(place)
    check_unique(places, [row["mixture"] for row in rows], "mixture_ID")
    return rows


def make_row(
    metadata: Path, line: dict, place: str, librispeech: Path, sources: int, mode: str
) -> dict[str, Any]:
    """The row of a mixture without noise; the lengths of the files decide its duration."""
    numbers = range(1, sources + 1)
    paths = [librispeech / cell(metadata, line, f"source_{k}_path") for k in numbers]
    gains = [f"source_{k}_gain" for k in numbers]
    durations = [listed_duration(place, path) for path in paths]
    return {
        "audio_filepath": str(paths[0]),
        "duration": min(durations) if mode == "min" else max(durations),
        "mixture": cell(metadata, line, "mixture_ID"),
        "sources": [str(path) for path in paths],
        "gains": [number(place, name, cell(metadata, line, name)) for name in gains],
    }


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
