"""SparseLibriMix: LibriMix with little overlap (Cosentino et al., arXiv 2005.11262)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly
from tqdm.auto import tqdm

from src.datasets.manifest import Manifest, Row
from src.datasets.mixtures.made import (
    SAMPLE_RATE,
    MadeMixtures,
    check_unique,
    listed_duration,
    number,
    read_at_16k,
)
from src.datasets.tables import read_text
from src.utils.audio_files import MAX_SECONDS
from src.utils.loudness import integrated_loudness
from src.utils.options import check_choice, shown

MIXTURES = ("mix_clean", "mix_noisy")
BLOCK = 0.1  # seconds, of which the loudness is measured
TIMES = ("start", "orig_start", "orig_stop")


class SparseLibriMix(MadeMixtures):
    """Items {id, path, seed, audio [T], sources [S, T]}, as the published script makes them.

    Nothing is stored: each source is a sequence of parts of utterances, of which each has its own
    place and loudness.

    Args:
        metadata: e.g. metadata/sparse_2_0.2/metadata.json of
            https://github.com/popcornell/SparseLibriMix.
        librispeech: folder test-clean of LibriSpeech.
        wham: folder wham_noise/tt of the noises; without it mixtures end with the speech, as
            those that are made without noise.
        mixture: mix_clean or mix_noisy.
        options: of `MadeMixtures`; `sample_rate` is 8000 or 16000.

    Raises:
        FileNotFoundError: the metadata or a recording is missing.
        ValueError: an option has a bad value, or the metadata lack a value.
    """

    def __init__(
        self,
        metadata: str,
        librispeech: str,
        wham: str | None = None,
        mixture: str = "mix_clean",
        **options: Any,
    ):
        check_choice("SparseLibriMix: mixture", mixture, MIXTURES)
        sample_rate = options.get("sample_rate", SAMPLE_RATE)
        check_choice("SparseLibriMix: sample_rate", sample_rate, (8000, SAMPLE_RATE))
        if mixture == "mix_noisy" and wham is None:
            raise ValueError("SparseLibriMix: wham: null; the folder of the noises, for mix_noisy.")
        self.mixture = mixture
        folders = (Path(librispeech).absolute(), Path(wham).absolute() if wham else None)
        rows = find_rows(Path(metadata), *folders)
        super().__init__(Manifest.from_rows(rows, Path(metadata)), **options)

    def mix(self, row: Row) -> tuple[np.ndarray, list[np.ndarray]]:
        """A mixture [T] and its sources, each [T], at the dataset's sample rate."""
        names, pieces = row.extra["sources"], row.extra["pieces"]
        placed = {name: [self.placed(piece) for piece in own] for name, own in pieces.items()}
        size = max(len(part) for parts in placed.values() for part in parts)
        summed = {
            name: np.sum([np.pad(part, (0, size - len(part))) for part in parts], axis=0)
            for name, parts in placed.items()
        }
        sources = [summed[name] for name in names]
        noise = [summed["noise"]] if self.mixture == "mix_noisy" else []
        return np.sum(sources + noise, axis=0), sources

    def placed(self, piece: dict[str, Any]) -> np.ndarray:
        """A part of a recording at its loudness, with silence before it, [T].

        Raises:
            ValueError: it is silent, or too short for its loudness to be measured.
        """
        path, rate = Path(piece["path"]), self.sample_rate
        start, stop = (int(piece[key] * SAMPLE_RATE) for key in ("orig_start", "orig_stop"))
        samples = read_at_16k(path, start, stop, piece["channel"]).astype(float)
        samples -= samples.mean()
        if rate != SAMPLE_RATE:
            samples = resample_poly(samples, rate, SAMPLE_RATE)
        try:
            loudness = integrated_loudness(samples, rate, BLOCK)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if not np.isfinite(loudness):
            raise ValueError(f"{path}: silent from second {piece['orig_start']:g} on.")
        gain = 10 ** ((piece["lvl"] - loudness) / 20)
        return np.pad(gain * samples, (int(piece["start"] * rate), 0))


def find_rows(metadata: Path, librispeech: Path, wham: Path | None) -> list[dict[str, Any]]:
    """Rows of a manifest, one for each mixture of the metadata."""
    try:
        mixtures = json.loads(read_text(metadata, "list of mixtures"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{metadata}: not JSON ({error}).") from None
    if not isinstance(mixtures, list) or not mixtures:
        raise ValueError(f"{metadata}: no list of mixtures.")
    rows, places = [], []
    for index, mixture in enumerate(tqdm(mixtures, desc=metadata.name, unit="mixture"), 1):
        place = f"{metadata}, mixture {index}"
        name = mixture.get("mixture_name") if isinstance(mixture, dict) else None
        if not isinstance(name, str) or not name:
            raise ValueError(f"{place}: mixture_name is {shown(name)}, wanted a text.")
        names = [key for key in mixture if key not in ("mixture_name", "noise")]
        pieces = {key: find_pieces(place, mixture, key, librispeech) for key in names}
        if wham is not None:
            pieces["noise"] = find_pieces(place, mixture, "noise", wham)
        if not names:
            raise ValueError(f"{place}: has no sources.")
        ends = [
            piece["start"] + piece["orig_stop"] - piece["orig_start"]
            for own in pieces.values()
            for piece in own
        ]
        rows.append(
            {
                "audio_filepath": pieces[names[0]][0]["path"],
                "duration": max(ends),
                "mixture": name,
                "sources": names,
                "pieces": pieces,
            }
        )
        places.append(place)
    check_unique(places, [row["mixture"] for row in rows], "mixture_name")
    return rows


def find_pieces(place: str, mixture: dict, source: str, folder: Path) -> list[dict[str, Any]]:
    """The parts of recordings that make a source.

    Args:
        place: of the mixture, for messages.
        mixture: in the metadata.
        source: s1, s2, ... or noise.
        folder: that paths are relative to.

    Raises:
        FileNotFoundError: a recording is missing.
        ValueError: a value is missing or bad.
    """
    listed = mixture.get(source)
    if not isinstance(listed, list) or not listed or not all(isinstance(x, dict) for x in listed):
        raise ValueError(f"{place}: {source} is {shown(listed)}, wanted a list of utterances.")
    pieces = []
    for values in listed:
        file, channel = values.get("file"), values.get("channel", 0)
        if not isinstance(file, str) or not file:
            raise ValueError(f"{place}: file of {source} is {shown(file)}, wanted a path.")
        if channel not in range(64) or isinstance(channel, bool | float):
            raise ValueError(f"{place}: channel of {source} is {shown(channel)}, wanted 0 to 63.")
        piece = {
            key: number(place, f"{key} of {source}", values.get(key), MAX_SECONDS) for key in TIMES
        }
        if min(piece.values()) < 0 or piece["orig_start"] >= piece["orig_stop"]:
            raise ValueError(f"{place}: {file} from {piece['orig_start']} to {piece['orig_stop']}.")
        piece["lvl"] = number(place, f"lvl of {source}", values.get("lvl"), 200)
        listed_duration(place, folder / file)
        pieces.append(piece | {"path": str(folder / file), "channel": channel})
    return pieces
