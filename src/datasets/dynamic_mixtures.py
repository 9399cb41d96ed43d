"""Mixtures of speakers, drawn in each epoch from single utterances."""

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from src.datasets.base_dataset import BaseDataset, Item
from src.datasets.manifest import Manifest, Row
from src.transforms.chain import Chain, apply_to_item
from src.utils.audio import read_audio
from src.utils.options import check_number, check_whole
from src.utils.random import generator, uniform

SPARE = 1.25  # times the segment is read, since a speed transform may shorten it
PEAK = 0.9


class DynamicMixtures(BaseDataset):
    """Items {id, path, seed, audio [T], sources [S, T]} of any manifest with speakers.

    The i-th mixture has the i-th utterance as its first source, so that an epoch has each one
    once; the others are drawn from other speakers. All that is drawn follows from
    (seed, epoch, i).

    Args:
        manifest: rows with `speaker`, or the path of one.
        num_speakers: in a mixture.
        segment: seconds of a mixture, cut at random places, with silence around shorter
            utterances; None: whole utterances, cut to the shortest of a mixture.
        low, high: bounds of each source's level in dBFS (RMS).
        single_speaker_prob: probability of a mixture in which all but one speaker are silent.
        sources: name -> transform of one source before it is mixed, e.g. speed or a room; what a
            model should estimate is the transformed source.
        limit: maximum number of mixtures; their first utterances are spread over the manifest.
            None: all.
        options: of `BaseDataset`.

    Raises:
        ValueError: a row has no speaker, there are fewer speakers than in a mixture, or an option
            has a bad value.
    """

    def __init__(
        self,
        manifest: Manifest | str,
        *,
        num_speakers: int = 2,
        segment: float | None = None,
        low: float = -33.0,
        high: float = -25.0,
        single_speaker_prob: float = 0.0,
        sources: Mapping[str, nn.Module] | None = None,
        limit: int | None = None,
        **options: Any,
    ):
        check_whole("num_speakers", num_speakers)
        check_number("segment", segment, high=3600, optional=True)
        check_number("low", low, low=-math.inf)
        check_number("high", high, low=low, inclusive=True)
        check_number("single_speaker_prob", single_speaker_prob, high=1, inclusive=True)
        check_whole("limit", limit, optional=True)
        if not isinstance(manifest, Manifest):
            manifest = Manifest(Path(manifest))
        super().__init__(manifest, **options)
        self.pool = self.manifest  # from which the other speakers are drawn
        if limit is not None:
            size = len(self.pool)
            self.manifest = self.pool.select(np.linspace(0, size - 1, min(limit, size)).astype(int))
        self.num_speakers, self.segment, self.level = num_speakers, segment, (low, high)
        self.single_speaker_prob, self.sources = single_speaker_prob, Chain(sources or {})
        self.rows_of = group_by_speaker(self.pool)
        if len(self.rows_of) < num_speakers:
            raise ValueError(
                f"{self.manifest.path}: {len(self.rows_of)} speakers, too few for mixtures of "
                f"{num_speakers}."
            )
        self.names = sorted(self.rows_of)

    @property
    def durations(self) -> np.ndarray:
        """Of the items, in seconds, [N]; without a segment the longest that they can be."""
        own = self.manifest.durations
        return own if self.segment is None else np.full_like(own, self.segment)

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """The mixture whose first source is a row."""
        draw = generator(seed, "mixture")
        rows = [row, *(self.pool[i] for i in self.draw_others(row, draw))]
        parts = [self.source(one, seed + k, draw) for k, one in enumerate(rows)]
        size = round(self.segment * self.sample_rate) if self.segment else min(map(len, parts))
        placed = torch.stack([place(source, size, draw) for source in parts])
        levels = [uniform(draw, *self.level) for _ in rows]
        single = uniform(draw, 0, 1) < self.single_speaker_prob
        sources = torch.stack(
            [at_level(source, level) for source, level in zip(placed, levels, strict=True)]
        )
        if single:
            sources[1:] = 0
        audio = sources.sum(0)
        peak = max(audio.abs().max().item(), sources.abs().max().item())
        if peak > PEAK:
            audio, sources = audio * (PEAK / peak), sources * (PEAK / peak)
        name = "_".join([id, *(one.audio_filepath.stem for one in rows[1:])])
        return {
            "id": name,
            "path": str(row.audio_filepath),
            "seed": seed,
            "audio": audio,
            "sources": sources,
        }

    def draw_others(self, row: Row, draw: torch.Generator) -> list[int]:
        """Indices of utterances of other speakers than a row's, one for each further source."""
        others = [name for name in self.names if name != row.speaker]
        chosen = torch.randperm(len(others), generator=draw)[: self.num_speakers - 1].tolist()
        candidates = [self.rows_of[others[k]] for k in chosen]
        return [int(rows[int(uniform(draw, 0, len(rows)))]) for rows in candidates]

    def source(self, row: Row, seed: int, draw: torch.Generator) -> Tensor:
        """An utterance or a part of it, transformed, [T']."""
        offset, seconds = row.offset, row.duration
        if self.segment is not None and row.duration > SPARE * self.segment:
            seconds = SPARE * self.segment
            offset += uniform(draw, 0, row.duration - seconds)
        audio = read_audio(row.audio_filepath, self.sample_rate, offset, seconds)
        item = {"id": row.audio_filepath.stem, "seed": seed, "audio": audio}
        return apply_to_item(self.sources, item)["audio"] if len(self.sources) else audio


def group_by_speaker(manifest: Manifest) -> dict[str, np.ndarray]:
    """Indices of the rows of each speaker.

    Raises:
        ValueError: a row has none; names the line.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for index in range(len(manifest)):
        speaker = manifest.values(index).get("speaker")
        if not speaker:
            raise ValueError(f"{manifest.place(index)}: no speaker, which mixtures need.")
        rows_of[speaker].append(index)
    return {speaker: np.array(rows) for speaker, rows in rows_of.items()}


def place(source: Tensor, size: int, draw: torch.Generator) -> Tensor:
    """`size` samples of a source from a random place; a shorter source, with silence around it."""
    spare = len(source) - size
    start = int(uniform(draw, 0, abs(spare) + 1))
    if spare >= 0:
        return source[start : start + size]
    return nn.functional.pad(source, (start, -spare - start))


def at_level(source: Tensor, level: float) -> Tensor:
    """A source at an RMS level in dBFS, measured where it isn't silent; silence is unchanged."""
    energy = source.square()
    active = energy > 1e-4 * energy.mean()  # pauses and padding don't make a speaker louder
    rms = (energy.sum() / active.sum().clamp(min=1)).sqrt()
    return source * (10 ** (level / 20) / rms) if rms > 0 else source
