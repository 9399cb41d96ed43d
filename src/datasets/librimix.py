"""LibriMix (Cosentino et al., arXiv 2005.11262), mixed on the fly from its published metadata."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly
from tqdm.auto import tqdm

from src.datasets.base_dataset import Item
from src.datasets.manifest import Manifest, Row
from src.datasets.mixtures import Mixtures
from src.utils.audio import audio_info, unreadable
from src.utils.random import generator, uniform

RATE = 16000  # of LibriSpeech and of the noises
MIXTURES = ("mix_clean", "mix_both", "mix_single")
MODES = ("min", "max")


class LibriMix(Mixtures):
    """Items {id, path, seed, audio [T], sources [S, T]}, those that the published scripts write.

    Nothing is stored: of each row of the metadata the utterances (and the noise) are read, weighed
    by their gains, resampled, cut to the shortest or padded to the longest, and added.

    Args:
        metadata: CSV of LibriMix, e.g. libri2mix_train-clean-100.csv.
        librispeech: folder in which the paths of the metadata lie.
        wham: folder of the noises; not needed for mix_clean.
        mixture: mix_clean, mix_both (with noise) or mix_single (one speaker and noise).
        mode: min or max.
        segment: seconds that are cut at a drawn place; None: all.
        options: of `Mixtures`; `sample_rate` is 16000 or a lower one.

    Raises:
        FileNotFoundError: the metadata or a recording is missing.
        ValueError: an option makes no sense, or the metadata lack a column.
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
        if mixture not in MIXTURES or mode not in MODES:
            raise ValueError(f"LibriMix: {mixture}, {mode}; wanted one of {MIXTURES} and {MODES}.")
        if mixture != "mix_clean" and wham is None:
            raise ValueError(f"LibriMix: {mixture} needs the folder of the noises, wham=FOLDER.")
        self.mixture, self.mode = mixture, mode
        if options.get("sample_rate", RATE) > RATE:
            raise ValueError(f"LibriMix: {options['sample_rate']} Hz; it is made of {RATE} Hz.")
        folders = (Path(librispeech).absolute(), Path(wham).absolute() if wham else None)
        path = Path(metadata)
        rows = find_rows(path, *folders, mode)
        super().__init__(Manifest.from_rows(rows, path), segment=segment, **options)

    def item_id(self, row: Row, index: int) -> str:
        """The mixture's name."""
        return row.extra["mixture"]

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """A mixture and its sources."""
        parts = [read(Path(path)) for path in row.extra["sources"]]
        gains = list(row.extra["gains"])
        if self.mixture != "mix_clean":
            longest = max(map(len, parts))
            noise = Path(row.extra["noise"])
            parts.append(extended(read(noise, longest), longest, noise))
            gains.append(row.extra["noise_gain"])
        weighed = [part * gain for part, gain in zip(parts, gains, strict=True)]
        fitted = fit([resample_poly(part, self.sample_rate, RATE) for part in weighed], self.mode)
        speakers = 1 if self.mixture == "mix_single" else len(row.extra["sources"])
        others = fitted[len(row.extra["sources"]) :]
        audio = torch.from_numpy(np.sum(fitted[:speakers] + others, axis=0)).float()
        sources = torch.from_numpy(np.stack(fitted[:speakers])).float()
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
    """A row for each mixture of the metadata."""
    if not metadata.exists():
        raise FileNotFoundError(f"{metadata}: no such file.")
    with metadata.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        columns = list(table.fieldnames or [])
        speakers = sum(name.startswith("source_") and name.endswith("_path") for name in columns)
        wanted = {"mixture_ID"} | ({"noise_path", "noise_gain"} if wham else set())
        for k in range(1, max(speakers, 1) + 1):
            wanted |= {f"source_{k}_path", f"source_{k}_gain"}
        if missing := wanted - set(columns):
            raise ValueError(f"{metadata}: no column {min(missing)}.")
        lines = list(table)
    rows = []
    for number, line in enumerate(tqdm(lines, desc=metadata.name, unit="mixture"), start=2):
        numbers = range(1, speakers + 1)
        paths = [librispeech / line[f"source_{k}_path"] for k in numbers]
        durations = [audio_info(path).duration for path in paths]
        row = {
            "audio_filepath": str(paths[0]),
            "duration": min(durations) if mode == "min" else max(durations),
            "mixture": line["mixture_ID"],
            "sources": [str(path) for path in paths],
        }
        try:
            row["gains"] = [float(line[f"source_{k}_gain"]) for k in numbers]
            if wham is not None:
                row |= {"noise": str(wham / line["noise_path"])}
                row |= {"noise_gain": float(line["noise_gain"])}
        except (TypeError, ValueError):
            raise ValueError(f"{metadata}, line {number}: a gain is no number.") from None
        rows.append(row)
    return rows


def read(path: Path, most: int | None = None) -> np.ndarray:
    """The first channel of a recording, of at most so many samples.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it can't be read or has another rate.
    """
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", stop=most, always_2d=True)
    except soundfile.LibsndfileError as error:
        raise unreadable(path, error) from None
    if rate != RATE:
        raise ValueError(f"{path}: {rate} Hz; LibriMix is made of {RATE} Hz.")
    return samples[:, 0]


def extended(noise: np.ndarray, size: int, path: Path) -> np.ndarray:
    """A noise repeated to `size` samples, each repetition faded in over half a second.

    Raises:
        ValueError: the noise of `path` is too short for that.
    """
    window = np.hanning(RATE + 1)[: RATE // 2 + 1]
    if len(noise) <= len(window) and len(noise) < size:
        raise ValueError(f"{path}: {len(noise)} samples; a noise needs half a second to be joined.")
    longer, overlap = noise, len(window)
    while len(longer) < size:
        faded = longer[-overlap:] * window[::-1] + noise[:overlap] * window
        longer = np.concatenate([longer[:-overlap], faded, noise[overlap:]])
    return longer[:size]


def fit(parts: list[np.ndarray], mode: str) -> list[np.ndarray]:
    """All as long as the shortest (min) or, with zeros behind, the longest (max)."""
    lengths = [len(part) for part in parts]
    if mode == "min":
        return [part[: min(lengths)] for part in parts]
    return [np.pad(part, (0, max(lengths) - len(part))) for part in parts]
