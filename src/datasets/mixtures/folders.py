"""Mixtures on disk, with their sources if there are any."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.datasets.base_dataset import BaseDataset, Item
from src.datasets.custom_dir import duration_of, is_recording
from src.datasets.filters import check_all_or_none
from src.datasets.manifest import Manifest, Row, is_text
from src.utils.audio import read_audio
from src.utils.audio_files import AudioInfo, audio_info
from src.utils.options import check_number, shown
from src.utils.random import generator, uniform
from src.utils.shard_sample import AudioPath
from src.utils.streams import read_blocks

MIXTURES = ("mix", "mix_clean", "mix_both", "mix_single", "mix_noisy")
SOURCE = re.compile(r"s([1-9]\d*)")


class Mixtures(BaseDataset):
    """Items {id, path, seed, audio [T], sources [S, T], file_rate, file_frames} of a manifest.

    Where no mixture has sources, so that they can only be separated, items are
    {id, path, seed, recording}: `recording` is the path, of a file that is read in blocks. One in a
    shard is read whole, as `audio`.

    Args:
        manifest: rows with `sources`, a list of paths of files as long as the mixture; or without.
        segment: seconds that are cut at a random place; None: all.
        options: of `BaseDataset`.

    Attributes:
        has_targets: False where no row has sources.

    Raises:
        ValueError: `sources` isn't a list of paths, or only some rows have it; when an item is
            read: a source is missing, or isn't as long as its mixture.
    """

    def __init__(self, manifest: Manifest, *, segment: float | None = None, **options: Any):
        check_number("segment", segment, optional=True)
        super().__init__(manifest, **options)
        self.segment = segment
        self.has_targets = check_sources(self.manifest)

    @property
    def durations(self) -> np.ndarray:
        """Of the items, in seconds, [N]."""
        own = self.manifest.durations
        return own if self.segment is None else np.minimum(own, self.segment)

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """A mixture and its sources; for a mixture alone its path, since it may be long."""
        in_file = isinstance(row.audio_filepath, Path)  # and not in a shard
        if not self.has_targets and self.segment is None and in_file:
            path = str(row.audio_filepath)
            if self.on_error == "skip":  # an error while it is being separated would be too late
                check_readable(row.audio_filepath)
            return {"id": id, "path": path, "seed": seed, "recording": path}
        folder = self.manifest.path.parent
        paths = [row.audio_filepath, *(folder / path for path in row.extra.get("sources") or [])]
        info = check_same_length(paths)
        offset, seconds = row.offset, row.duration
        if self.segment is not None and seconds > self.segment:
            draw = generator(seed, "segment")
            offset += uniform(draw, 0, seconds - self.segment)
            seconds = self.segment
        mixture, *sources = [read_audio(path, self.sample_rate, offset, seconds) for path in paths]
        item: Item = {"id": id, "path": str(row.audio_filepath), "seed": seed, "audio": mixture}
        if self.segment is None:
            item |= {"file_rate": info.sample_rate, "file_frames": info.frames}
        if sources:
            item["sources"] = torch.stack(sources)
        return item


def check_readable(path: AudioPath) -> None:
    """Read all of a recording.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable as audio, has no samples, or some that aren't finite.
    """
    for _ in read_blocks(path):
        pass


def check_sources(manifest: Manifest) -> bool:
    """Whether the rows of a manifest have sources.

    Raises:
        ValueError: `sources` is no list of paths, or rows have different numbers of them; names
            the line.
    """
    counts = np.array([count_sources(manifest, i) for i in range(len(manifest))])
    has_sources = check_all_or_none(manifest, counts > 0, "list of sources")
    if (counts != counts[0]).any():
        first = int(np.flatnonzero(counts != counts[0])[0])
        raise ValueError(
            f"{manifest.place(first)}: {counts[first]} sources, wanted {counts[0]} as in "
            f"{manifest.place(0)}."
        )
    return has_sources


def count_sources(manifest: Manifest, index: int) -> int:
    """How many sources a row has; 0 without `sources`.

    Raises:
        ValueError: `sources` is no list of paths; names the line.
    """
    sources = manifest.values(index).get("sources")
    if sources is None:
        return 0
    if not isinstance(sources, list) or not sources or not all(map(is_text, sources)):
        place = manifest.place(index)
        raise ValueError(f"{place}: sources is {shown(sources)}, wanted a list of paths.")
    return len(sources)


class MixtureFolder(Mixtures):
    """Mixtures in a folder in the form of wsj0-2mix, WHAM! and LibriMix: `mix*/`, `s1/`, `s2/`, ...

    Args:
        dir: the folder, which holds those, or holds them in `audio/`.
        mixture: which of its folders has the mixtures, e.g. mix_both; None: the only one.
        targets: which sources, where there are several: reverb for `s1_reverb/`, `s2_reverb/`, ...;
            None: `s1/`, `s2/`, ...
        need_targets: whether there must be sources.
        options: of `Mixtures`.

    Raises:
        FileNotFoundError: there is no such folder, or no recording in it.
        ValueError: several folders hold mixtures, or a mixture lacks a source.
    """

    def __init__(
        self,
        dir: str,
        mixture: str | None = None,
        targets: str | None = None,
        need_targets: bool = False,
        **options: Any,
    ):
        suffix = "" if targets is None else f"_{targets}"
        needed = need_targets or targets is not None
        rows = find_rows(Path(dir), mixture, suffix, needed, options.get("on_error") == "skip")
        super().__init__(Manifest.from_rows(rows, Path(dir)), **options)


def find_rows(
    folder: Path, mixture: str | None, suffix: str, needed: bool, skip: bool
) -> list[dict[str, Any]]:
    """Rows of a manifest, one for each mixture, in the order of their names.

    Args:
        folder: of the corpus.
        mixture: the name of the folder of mixtures; None: the only one.
        suffix: of the names of the folders of sources.
        needed: whether there must be such folders.
        skip: whether a file that can't be read is reported with its item.
    """
    place = mixture_folder(folder, mixture)
    paths = sorted(path for path in place.iterdir() if is_recording(path))
    if not paths:
        raise FileNotFoundError(f"{place}: no recording in this folder.")
    base = place.parent if mixture or place.name in MIXTURES else place
    sources = source_folders(base, suffix)
    if needed and not sources:
        raise FileNotFoundError(f"{base / ('s1' + suffix)}: no such folder of sources.")
    if place.name.startswith("mix_single"):
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
    """The folder of the mixtures.

    Args:
        folder: of the corpus, or its parent with `audio/`.
        mixture: the name of the folder of mixtures; None: the only one there is, or `folder`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there are several.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder.")
    base = folder / "audio" if (folder / "audio").is_dir() else folder
    if mixture is not None:
        if not (base / mixture).is_dir():
            there = sorted(path.name for path in base.glob("mix*") if path.is_dir())
            known = f" (of mixtures there are {', '.join(there)})" if there else ""
            raise FileNotFoundError(f"{base / mixture}: no such folder{known}.")
        return base / mixture
    folders = [base / name for name in MIXTURES if (base / name).is_dir()]
    if len(folders) > 1:
        names = ", ".join(path.name for path in folders)
        raise ValueError(f"{base}: holds {names}; choose one by mixture=NAME (scripts: --mixture).")
    return folders[0] if folders else base


def source_folders(folder: Path, suffix: str = "") -> list[Path]:
    """The folders `s1`, `s2`, ... of a folder, in order.

    Args:
        folder: that holds them.
        suffix: of their names, e.g. _reverb.

    Raises:
        ValueError: one of them is missing.
    """
    names = [path.name for path in folder.iterdir() if path.name.endswith(suffix)]
    matches = [SOURCE.fullmatch(name[: len(name) - len(suffix)]) for name in names]
    numbers = sorted(int(match[1]) for match in matches if match)
    for wanted, number in enumerate(numbers, 1):
        if number != wanted:
            raise ValueError(f"{folder}: there is s{number}{suffix}/, but no s{wanted}{suffix}/.")
    return [folder / f"s{number}{suffix}" for number in numbers]


def check_same_length(paths: list[Path], first: str = "mixture") -> AudioInfo:
    """The header of the first of some files, which all have the same length and sample rate.

    Args:
        paths: e.g. a mixture and its sources.
        first: what the first one is to the others, for the message.

    Raises:
        ValueError: one has another length or sample rate; names it.
        FileNotFoundError: one is missing.
    """
    infos = [audio_info(path) for path in paths]
    for path, info in zip(paths[1:], infos[1:], strict=True):
        if (info.frames, info.sample_rate) != (infos[0].frames, infos[0].sample_rate):
            raise ValueError(
                f"{path}: {info.frames} samples at {info.sample_rate} Hz, its {first} {paths[0]} "
                f"has {infos[0].frames} at {infos[0].sample_rate} Hz."
            )
    return infos[0]
