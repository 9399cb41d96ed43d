"""WHAM! (Wichern et al., arXiv 1907.01160) and WHAMR! (Maciejewski et al., arXiv 1910.10279)."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import resample_poly
from tqdm.auto import tqdm

from src.datasets.manifest import Manifest, Row
from src.datasets.mixtures.folders import MixtureFolder
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
from src.utils.audio_files import check_file
from src.utils.options import check_choice, shown

MIXTURES = ("mix_clean", "mix_both", "mix_single")
SPLITS = ("tr", "cv", "tt")
REVERBERATION = ("anechoic", "reverb")
RATES = {8000: "8k", 16000: "16k"}  # Hz, and how folders and scalings are called
STEPS = 2**15  # of 16 bits, by which the scripts round the scaled utterances


class Wham(MadeMixtures):
    """Items {id, path, seed, audio [T], sources [S, T]} of WHAM!, as its scripts make them.

    Nothing is stored: the utterances of WSJ0 and the noises are read, resampled, scaled by the
    published gains, aligned and added.

    Args:
        files: list of WHAM!'s scripts, e.g. data/mix_2_spk_filenames_tr.csv.
        wsj0: folder that its paths are relative to, which holds `wsj0/`, converted to wav.
        noise: folder wham_noise, with metadata/ and tr/, cv/ and tt/.
        split: tr, cv or tt.
        mixture: mix_clean, mix_both (with noise) or mix_single (one speaker and noise).
        mode: min, or max: as long as the noise.
        options: of `MadeMixtures`; `sample_rate` is 8000 or 16000.

    Raises:
        FileNotFoundError: a list or a recording is missing.
        ValueError: an option has a bad value, or a list lacks a mixture, a column or a value.
    """

    def __init__(
        self,
        files: str,
        wsj0: str,
        noise: str,
        split: str,
        mixture: str = "mix_both",
        mode: str = "min",
        **options: Any,
    ):
        check_choice("Wham: split", split, SPLITS)
        check_choice("Wham: mixture", mixture, MIXTURES)
        check_choice("Wham: mode", mode, MODES)
        sample_rate = options.get("sample_rate", SAMPLE_RATE)
        check_choice("Wham: sample_rate", sample_rate, tuple(RATES))
        self.mixture, self.mode = mixture, mode
        form = f"{RATES[sample_rate]}_{mode}"
        folders = (Path(wsj0).absolute(), Path(noise).absolute())
        rows = find_rows(Path(files), *folders, split, form)
        super().__init__(Manifest.from_rows(rows, Path(files)), **options)

    def mix(self, row: Row) -> tuple[np.ndarray, list[np.ndarray]]:
        """A mixture [T] and its sources, each [T], at the dataset's sample rate."""
        values = row.extra
        speech = [
            rounded(self.scaled(Path(path), gain)) * values["speech_gain"]
            for path, gain in zip(values["sources"], values["gains"], strict=True)
        ]
        speech = fit(speech, self.mode)
        path = Path(values["noise"])
        noise = self.scaled(path, values["noise_gain"])
        start = values["start"] * self.sample_rate // SAMPLE_RATE
        end = start + len(speech[0])
        if end > len(noise):
            raise ValueError(f"{path}: {len(noise)} samples, wanted {end}.")
        if self.mode == "min":
            noise = noise[start:end]
        else:
            speech = [np.pad(part, (start, len(noise) - end)) for part in speech]
        sources = speech[:1] if self.mixture == "mix_single" else speech
        others = [] if self.mixture == "mix_clean" else [noise]
        return np.sum(sources + others, axis=0), sources

    def scaled(self, path: Path, gain: float) -> np.ndarray:
        """A recording at the dataset's sample rate, times a gain, [T]."""
        samples = read_at_16k(path).astype(float)
        if self.sample_rate != SAMPLE_RATE:
            samples = resample_poly(samples, self.sample_rate, SAMPLE_RATE)
        return samples * gain


def rounded(samples: np.ndarray) -> np.ndarray:
    """Samples [T] rounded to 16 bits."""
    return np.round(STEPS * samples) / STEPS


def find_rows(files: Path, wsj0: Path, noise: Path, split: str, form: str) -> list[dict[str, Any]]:
    """Rows of a manifest, one for each mixture of the list.

    Args:
        files: CSV with output_filename, s1_path and s2_path.
        wsj0: folder of the utterances.
        noise: folder wham_noise.
        split: tr, cv or tt.
        form: of the mixtures, e.g. 8k_min.
    """
    lines = read_table(files, ",")
    check_columns(files, lines, ("output_filename", "s1_path", "s2_path"))
    parameters = read_parameters(noise / "metadata", split, form)
    rows, places = [], []
    for line in tqdm(lines, desc=files.name, unit="mixture"):
        place, name = f"{files}, line {line['line']}", cell(files, line, "output_filename")
        if name not in parameters:
            metadata = noise / "metadata" / f"mix_param_meta_{split}.csv"
            raise ValueError(f"{place}: {shown(name)} isn't in {metadata}.")
        paths = [wsj0 / cell(files, line, f"s{k}_path") for k in (1, 2)]
        durations = [listed_duration(place, path) for path in paths]
        background = noise / split / name
        whole = listed_duration(place, background)
        row: dict[str, Any] = {
            "audio_filepath": str(paths[0]),
            "duration": min(durations) if form.endswith("min") else whole,
            "mixture": Path(name).stem if name.endswith(".wav") else name,
            "sources": [str(path) for path in paths],
            "noise": str(background),
        }
        rows.append(row | parameters[name])
        places.append(place)
    check_unique(places, [row["mixture"] for row in rows], "output_filename")
    return rows


def read_parameters(metadata: Path, split: str, form: str) -> dict[str, dict[str, Any]]:
    """Start of the speech in the noise and gains of each mixture, by its name.

    The names in scaling_*.npz are pickled, so they are taken from the table of which they are a
    copy; only its arrays of numbers are read.

    Raises:
        FileNotFoundError: there is no metadata.
        ValueError: it lacks a column, an array or a value.
    """
    path = metadata / f"mix_param_meta_{split}.csv"
    lines = read_table(path, ",")
    start = "noise_samples_beginning_16k"
    check_columns(path, lines, ("utterance_id", start))
    gains = read_gains(metadata / f"scaling_{split}.npz", form, len(lines))
    parameters = {}
    for index, line in enumerate(lines):
        place = f"{path}, line {line['line']}"
        first = number(place, start, cell(path, line, start), 2**31)
        if first < 0 or first != int(first):
            raise ValueError(f"{place}: {start} is {first:g}, wanted a whole number from 0 on.")
        values = {"start": int(first)} | {name: own[index] for name, own in gains.items()}
        parameters[cell(path, line, "utterance_id")] = values
    return parameters


def read_gains(path: Path, form: str, count: int) -> dict[str, list]:
    """The gains of all mixtures in one form.

    Args:
        path: of scaling_{tr,cv,tt}.npz.
        form: e.g. 8k_min.
        count: of mixtures.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or has other arrays.
    """
    check_file(path, "file of gains")
    keys = {"gains": "wsjmix", "speech_gain": "wham_speech", "noise_gain": "wham_noise"}
    gains = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name, key in keys.items():
                gains[name] = arrays[f"scaling_{key}_{form}"]
    except KeyError as error:
        raise ValueError(f"{path}: has no array {error.args[0].split(' ')[0]}.") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not readable as arrays of numbers ({error}).") from None
    for name, values in gains.items():
        shape = (count, 2) if name == "gains" else (count,)
        numeric = np.issubdtype(values.dtype, np.floating)
        if values.shape != shape or not numeric or not np.isfinite(values).all():
            raise ValueError(
                f"{path}: scaling_{keys[name]}_{form} is {values.dtype} {list(values.shape)}, "
                f"wanted finite numbers {list(shape)}."
            )
    return {name: values.tolist() for name, values in gains.items()}


class WhamFolder(MixtureFolder):
    """Mixtures of WHAM! or WHAMR! that their scripts have written: wav8k/min/tr/mix_both/, ...

    Args:
        dir: the folder that holds wav8k/ or wav16k/; the sample rate decides which.
        split: tr, cv or tt.
        mixture: mix_clean, mix_both (with noise) or mix_single (one speaker and noise).
        mode: min or max.
        reverberation: of WHAMR!'s mixtures: anechoic or reverb; null for WHAM!.
        targets: of WHAMR!: anechoic, the direct sound, or reverb.
        options: of `MixtureFolder`.

    Raises:
        FileNotFoundError: there is no such folder, or no recording in it.
        ValueError: an option has a bad value, or a mixture lacks a source.
    """

    def __init__(
        self,
        dir: str,
        split: str,
        mixture: str = "mix_both",
        mode: str = "min",
        reverberation: str | None = None,
        targets: str = "anechoic",
        **options: Any,
    ):
        check_choice("WhamFolder: split", split, SPLITS)
        check_choice("WhamFolder: mixture", mixture, MIXTURES)
        check_choice("WhamFolder: mode", mode, MODES)
        check_choice("WhamFolder: reverberation", reverberation, (*REVERBERATION, None))
        check_choice("WhamFolder: targets", targets, REVERBERATION)
        sample_rate = options.get("sample_rate", SAMPLE_RATE)
        check_choice("WhamFolder: sample_rate", sample_rate, tuple(RATES))
        folder = Path(dir) / f"wav{RATES[sample_rate]}" / mode / split
        if reverberation is not None:
            mixture = f"{mixture}_{reverberation}"
            options["targets"] = targets
        super().__init__(str(folder), mixture, need_targets=True, **options)
