"""Mixtures that lie on disk, beside their sources."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.datasets.base_dataset import BaseDataset, Item
from src.datasets.custom_dir import duration_of, is_recording
from src.datasets.manifest import Manifest, Row
from src.utils.audio import AudioInfo, audio_info, read_audio
from src.utils.random import generator, uniform
from src.utils.streams import read_blocks

MIXTURES = ("mix", "mix_clean", "mix_both", "mix_single")
SOURCE = re.compile(r"s[1-9]\d*")


class Mixtures(BaseDataset):
    """Items {id, path, seed, audio [T], sources [S, T], file_rate, file_frames} of a manifest.

    Mixtures without sources, which can only be separated, are items {id, path, seed, recording}:
    paths of files that are read bit by bit.

    Args:
        manifest: rows with `sources`, paths of as many files as long as the mixture, or without.
        segment: seconds that are cut at a drawn place; None: all.
        options: of `BaseDataset`.

    Raises:
        ValueError: when an item is read: a source is not as long as its mixture, or missing.
    """

    def __init__(self, manifest: Manifest, *, segment: float | None = None, **options: Any):
        super().__init__(manifest, **options)
        self.segment = segment
        self.has_targets = all("sources" in row.extra for row in self.manifest)

    @property
    def durations(self) -> np.ndarray:
        """In seconds, [N]."""
        own = self.manifest.durations
        return own if self.segment is None else np.minimum(own, self.segment)

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """A mixture and its sources; of a mixture alone its path, for it may be long."""
        if "sources" not in row.extra and self.segment is None:
            path = str(row.audio_filepath)
            if self.on_error == "skip":  # once it is being separated it is too late for that
                for _ in read_blocks(row.audio_filepath):
                    pass
            return {"id": id, "path": path, "seed": seed, "recording": path}
        paths = [row.audio_filepath, *(Path(path) for path in row.extra.get("sources", []))]
        info = check_same_length(paths)
        offset, seconds = row.offset, row.duration
        if self.segment is not None and seconds > self.segment:
            draw = generator(seed, "segment")
            offset += uniform(draw, 0, seconds - self.segment)
            seconds = self.segment
        found = [read_audio(path, self.sample_rate, offset, seconds) for path in paths]
        item: Item = {"id": id, "path": str(row.audio_filepath), "seed": seed, "audio": found[0]}
        if self.segment is None:
            item |= {"file_rate": info.rate, "file_frames": info.frames}
        if len(found) > 1:
            item["sources"] = torch.stack(found[1:])
        return item


class MixtureFolder(Mixtures):
    """A folder in the form of wsj0-2mix, WHAM! and LibriMix: `mix*/`, `s1/`, `s2/`, ...

    Args:
        dir: the folder; or its `audio/` holds those.
        mixture: which of its folders has the mixtures, e.g. mix_both; None: the only one.
        options: of `Mixtures`.

    Raises:
        FileNotFoundError: there is no such folder, or no recording in it.
        ValueError: several folders hold mixtures, or a mixture lacks a source.
    """

    def __init__(self, dir: str, mixture: str | None = None, **options: Any):
        rows = find_rows(Path(dir), mixture, options.get("on_error") == "skip")
        super().__init__(Manifest.from_rows(rows, Path(dir)), **options)


def find_rows(folder: Path, mixture: str | None, skip: bool) -> list[dict[str, Any]]:
    """A row for each mixture, in the order of their names."""
    place = mixture_folder(folder, mixture)
    paths = sorted(path for path in place.iterdir() if is_recording(path))
    if not paths:
        raise FileNotFoundError(f"{place}: no recording in this folder.")
    base = place.parent if mixture or place.name in MIXTURES else place
    sources = source_folders(base)
    if place.name == "mix_single":
        sources = sources[:1]  # the first speaker is the only one in it
    rows = []
    for path in paths:
        row: dict[str, Any] = {
            "audio_filepath": str(path.absolute()),
            "duration": duration_of(path, skip),
        }
        if sources:
            row["sources"] = [str((source / path.name).absolute()) for source in sources]
            for source in row["sources"]:
                if not Path(source).exists():
                    raise ValueError(f"{path}: its source {source} is missing.")
        rows.append(row)
    return rows


def mixture_folder(folder: Path, mixture: str | None) -> Path:
    """Where the mixtures lie."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder.")
    base = folder / "audio" if (folder / "audio").is_dir() else folder
    if mixture is not None:
        if not (base / mixture).is_dir():
            raise FileNotFoundError(f"{base / mixture}: no such folder.")
        return base / mixture
    found = [base / name for name in MIXTURES if (base / name).is_dir()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{base}: which of {names} is wanted? Say so by mixture=NAME.")
    return found[0] if found else base


def source_folders(folder: Path) -> list[Path]:
    """`s1`, `s2`, ...

    Raises:
        ValueError: one of them is missing.
    """
    numbers = sorted(int(path.name[1:]) for path in folder.iterdir() if SOURCE.fullmatch(path.name))
    for wanted, number in enumerate(numbers, 1):
        if number != wanted:
            raise ValueError(f"{folder}: there is s{number}/, but no s{wanted}/.")
    return [folder / f"s{number}" for number in numbers]


def check_same_length(paths: list[Path], first: str = "mixture") -> AudioInfo:
    """What the first file's header says, and with it those of all others.

    Args:
        paths: e.g. a mixture and its sources.
        first: what the first one is to the others.

    Raises:
        ValueError: one isn't, or has another rate; names it.
        FileNotFoundError: one is missing.
    """
    infos = [audio_info(path) for path in paths]
    for path, info in zip(paths[1:], infos[1:], strict=True):
        if (info.frames, info.rate) != (infos[0].frames, infos[0].rate):
            raise ValueError(
                f"{path}: {info.frames} samples at {info.rate} Hz, its {first} {paths[0]} has "
                f"{infos[0].frames} at {infos[0].rate} Hz."
            )
    return infos[0]
