"""WSJ0-2mix and WSJ0-3mix (Hershey et al., arXiv 1508.04306), mixed from their published lists."""

import math
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
from src.datasets.tables import read_lines
from src.utils.options import check_choice

SAMPLE_RATES = (8000, 16000)  # Hz, of the published mixtures
PEAK = 0.9


class Wsj0Mix(MadeMixtures):
    """Items {id, path, seed, audio [T], sources [S, T]}, as pywsj0-mix makes them.

    The utterances of each line are resampled, divided by the root of their active level, scaled
    by the line's levels, cut or padded, added and scaled to a peak of at most 0.9.

    At 16 kHz these are the mixtures of the original MATLAB scripts; at 8 kHz they differ from
    them by MATLAB's resampling filter.

    Args:
        mixtures: a published list, e.g. mix_2_spk_tr.txt; each line has a path and a level in dB
            for each speaker.
        wsj0: folder that the paths are relative to, which holds `wsj0/`, converted to wav.
        levels: active levels of the utterances as powers (ITU-T P.56): `<utterance> <level>` in
            a file, or in all files *.txt of a folder, such as metadata/activlev of
            https://github.com/mpariente/pywsj0-mix.
        mode: min or max.
        options: of `MadeMixtures`; `sample_rate` is 8000 or 16000.

    Raises:
        FileNotFoundError: a list or a recording is missing.
        ValueError: an option has a bad value, a line is bad, or an utterance has no level.
    """

    def __init__(self, mixtures: str, wsj0: str, levels: str, mode: str = "min", **options: Any):
        check_choice("Wsj0Mix: mode", mode, MODES)
        check_choice("Wsj0Mix: sample_rate", options.get("sample_rate", SAMPLE_RATE), SAMPLE_RATES)
        self.mode = mode
        path = Path(mixtures)
        rows = find_rows(path, Path(wsj0).absolute(), read_levels(Path(levels)), mode)
        super().__init__(Manifest.from_rows(rows, path), **options)

    def mix(self, row: Row) -> tuple[np.ndarray, list[np.ndarray]]:
        """A mixture [T] and its sources, each [T], at the dataset's sample rate."""
        read = [read_at_16k(Path(path)) for path in row.extra["sources"]]
        resampled = [resample_poly(part, self.sample_rate, SAMPLE_RATE) for part in read]
        gains = row.extra["gains"]
        scaled = [part.astype(float) * gain for part, gain in zip(resampled, gains, strict=True)]
        parts = np.stack(fit(scaled, self.mode))
        mixture = parts.sum(0)
        scale = PEAK / max(1.0, np.abs(mixture).max(), np.abs(parts).max())
        return mixture * scale, list(parts * scale)


def find_rows(
    mixtures: Path, wsj0: Path, levels: dict[str, float], mode: str
) -> list[dict[str, Any]]:
    """Rows of a manifest, one for each line of a list."""
    rows, places = [], []
    for count, line in tqdm(list(read_lines(mixtures, "list")), desc=mixtures.name, unit="mixture"):
        place = f"{mixtures}, line {count}"
        rows.append(make_row(place, line.split(), wsj0, levels, mode))
        places.append(place)
        if len(rows[-1]["sources"]) != len(rows[0]["sources"]):
            raise ValueError(
                f"{place}: {len(rows[-1]['sources'])} speakers, wanted "
                f"{len(rows[0]['sources'])} as in {places[0]}."
            )
    if not rows:
        raise ValueError(f"{mixtures}: has no lines.")
    check_unique(places, [row["mixture"] for row in rows], "mixture")
    return rows


def make_row(
    place: str, words: list[str], wsj0: Path, levels: dict[str, float], mode: str
) -> dict[str, Any]:
    """The row of a line, whose words are a path and a level in dB for each speaker."""
    if len(words) < 2 or len(words) % 2:
        raise ValueError(
            f"{place}: {len(words)} words, wanted a path and a level in dB for each speaker."
        )
    paths = [wsj0 / word for word in words[::2]]
    decibels = [number(place, "a level in dB", word, 100) for word in words[1::2]]
    durations = [listed_duration(place, path) for path in paths]
    gains = []
    for path, own in zip(paths, decibels, strict=True):
        if path.stem not in levels:
            raise ValueError(f"{place}: no active level of {path.stem} in the levels.")
        gains.append(10 ** (own / 20) / math.sqrt(levels[path.stem]))
    names = [f"{p.stem}_{as_matlab(own)}" for p, own in zip(paths, decibels, strict=True)]
    return {
        "audio_filepath": str(paths[0]),
        "duration": min(durations) if mode == "min" else max(durations),
        "mixture": "_".join(names),
        "sources": [str(path) for path in paths],
        "gains": gains,
    }


def as_matlab(value: float) -> str:
    """A number as MATLAB's num2str writes it into the names of the mixtures."""
    digits = max(5 + math.floor(math.log10(abs(value))), 5) if value else 5
    return f"{value:.{digits}g}"


def read_levels(source: Path) -> dict[str, float]:
    """Active level of each utterance as a power.

    Args:
        source: a file with lines `<utterance> <level>`, or a folder of such files *.txt.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a line has no utterance and level above 0.
    """
    files = sorted(source.glob("*.txt")) if source.is_dir() else [source]
    if not files:
        raise FileNotFoundError(f"{source}: no list of levels *.txt in this folder.")
    levels = {}
    for file in files:
        for count, line in read_lines(file, "list of levels"):
            place, words = f"{file}, line {count}", line.split()
            if len(words) != 2:
                raise ValueError(f"{place}: {len(words)} words, wanted an utterance and a level.")
            level = number(place, "the level", words[1])
            if level <= 0:
                raise ValueError(f"{place}: the level is {words[1]}, wanted a number above 0.")
            levels[words[0]] = level
    return levels
