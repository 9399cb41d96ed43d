"""Conversations: drawn from the utterances of a manifest, or recordings in a folder."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.datasets.base_dataset import BaseDataset, Item
from src.datasets.manifest import Manifest, Row, safe_name
from src.datasets.mixtures.dynamic import at_level, group_by_speaker
from src.datasets.mixtures.folders import check_readable, find_rows
from src.utils.audio import read_audio
from src.utils.options import check_number, check_whole
from src.utils.random import generator, item_seed, uniform
from src.utils.segments import Segment, read_segments

PEAK = 0.9
REFERENCES = ("reference.stm", "reference.json")


@dataclass(frozen=True)
class Turn:
    """An utterance in a conversation.

    Attributes:
        row: of the manifest.
        speaker: index in the conversation.
        start: in seconds.
    """

    row: Row
    speaker: int
    start: float

    @property
    def end(self) -> float:
        """In seconds."""
        return self.start + self.row.duration


class Conversations(BaseDataset):
    """Items {id, path, seed, audio [T], sources [S, T], segments} of a recognition manifest.

    Speakers talk in turns, with pauses or overlaps between them; nobody overlaps with himself.
    Everything follows from (seed, epoch, index). `segments` is a list of `Segment` by start.

    Args:
        manifest: rows with `speaker` and `text`, or the path of one.
        num_speakers: in a conversation.
        utterances: in a conversation.
        overlap_prob: probability that a turn begins before the previous one ends.
        max_overlap: the longest overlap, as a fraction of the shorter of both utterances.
        min_pause, max_pause: bounds of the other gaps between turns, in seconds.
        low, high: bounds of each speaker's level in dBFS (RMS).
        limit: maximum number of conversations; their first utterances are spread over the
            manifest. None: as many as utterances.
        options: of `BaseDataset`.

    Raises:
        ValueError: a row has no speaker or no text, there are too few speakers, or an option has a
            bad value.
    """

    def __init__(
        self,
        manifest: Manifest | str,
        *,
        num_speakers: int = 2,
        utterances: int = 8,
        overlap_prob: float = 0.5,
        max_overlap: float = 0.5,
        min_pause: float = 0.1,
        max_pause: float = 1.0,
        low: float = -33.0,
        high: float = -25.0,
        limit: int | None = 20,
        **options: Any,
    ):
        check_whole("num_speakers", num_speakers)
        check_whole("utterances", utterances, low=num_speakers)
        check_number("overlap_prob", overlap_prob, high=1, inclusive=True)
        check_number("max_overlap", max_overlap, high=1, inclusive=True)
        check_number("min_pause", min_pause, inclusive=True)
        check_number("max_pause", max_pause, low=min_pause, inclusive=True)
        check_number("low", low, low=-math.inf)
        check_number("high", high, low=low, inclusive=True)
        check_whole("limit", limit, optional=True)
        if not isinstance(manifest, Manifest):
            manifest = Manifest(Path(manifest))
        super().__init__(manifest, **options)
        self.pool = self.manifest  # from which the further utterances are drawn
        without = np.flatnonzero(~self.pool.has_text)
        if len(without):
            place = self.pool.place(int(without[0]))
            raise ValueError(f"{place}: no text, which conversations need.")
        self.rows_of = group_by_speaker(self.pool)
        if len(self.rows_of) < num_speakers:
            raise ValueError(
                f"{self.pool.path}: {len(self.rows_of)} speakers, too few for conversations of "
                f"{num_speakers}."
            )
        if limit is not None:
            size = len(self.pool)
            self.manifest = self.pool.select(np.linspace(0, size - 1, min(limit, size)).astype(int))
        self.num_speakers, self.utterances = num_speakers, utterances
        self.overlap = (overlap_prob, max_overlap)
        self.pause, self.level = (min_pause, max_pause), (low, high)

    @property
    def durations(self) -> np.ndarray:
        """Of the conversations of epoch 0, in seconds, [N]."""
        return self.planned_durations

    @cached_property
    def planned_durations(self) -> np.ndarray:
        """Durations by the plans, which need no audio, [N]."""
        plans = (
            self.plan(row, generator(item_seed(self.seed, 0, index), "conversation"))
            for index, row in enumerate(self.manifest)
        )
        return np.array([max(turn.end for turn in turns) for turns in plans])

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """The conversation that begins with a row."""
        draw = generator(seed, "conversation")
        turns = self.plan(row, draw)
        levels = [uniform(draw, *self.level) for _ in range(self.num_speakers)]
        rate, placed = self.sample_rate, []
        for turn in turns:
            own = turn.row
            audio = read_audio(own.audio_filepath, rate, own.offset, own.duration)
            placed.append((turn.speaker, round(turn.start * rate), audio))
        size = max(start + len(audio) for _, start, audio in placed)
        sources = torch.zeros(self.num_speakers, size)
        for speaker, start, audio in placed:
            scaled = at_level(audio[None], levels[speaker])[0]
            sources[speaker, start : start + len(audio)] += scaled
        mixture = sources.sum(0)
        peak = max(mixture.abs().max().item(), sources.abs().max().item())
        if peak > PEAK:
            mixture, sources = mixture * (PEAK / peak), sources * (PEAK / peak)
        return {
            "id": id,
            "path": str(row.audio_filepath),
            "seed": seed,
            "audio": mixture,
            "sources": sources,
            "segments": [
                Segment(str(turn.row.speaker), turn.start, turn.end, turn.row.text or "")
                for turn in sorted(turns, key=lambda turn: turn.start)
            ],
        }

    def plan(self, row: Row, draw: torch.Generator) -> list[Turn]:
        """Who says what and when; everyone speaks, and nobody twice in a row.

        Args:
            row: the first utterance.
            draw: random numbers.
        """
        others = [name for name in self.rows_of if name != row.speaker]
        chosen = torch.randperm(len(others), generator=draw)[: self.num_speakers - 1].tolist()
        names = [str(row.speaker), *(others[k] for k in chosen)]
        turns = [Turn(row, 0, 0.0)]
        free = [turns[0].end] + [0.0] * (self.num_speakers - 1)  # when each may speak again
        while len(turns) < self.utterances:
            previous = turns[-1]
            speaker = len(turns)
            if speaker >= self.num_speakers:
                speaker = int(uniform(draw, 0, max(1, self.num_speakers - 1)))
                speaker += self.num_speakers > 1 and speaker >= previous.speaker
            rows = self.rows_of[names[speaker]]
            new = self.pool[int(rows[int(uniform(draw, 0, len(rows)))])]
            start = previous.end + self.gap(min(previous.row.duration, new.duration), draw)
            turns.append(Turn(new, speaker, max(start, free[speaker])))
            free[speaker] = turns[-1].end
        return turns

    def gap(self, shorter: float, draw: torch.Generator) -> float:
        """Seconds from the end of a turn to the next one, negative for an overlap.

        Args:
            shorter: duration of the shorter of both.
            draw: random numbers.
        """
        probability, longest = self.overlap
        overlaps = uniform(draw, 0, 1) < probability
        return -uniform(draw, 0, longest * shorter) if overlaps else uniform(draw, *self.pause)


class ConversationFolder(BaseDataset):
    """Items {id, path, seed, recording, source_files, segments?} of recordings in a folder.

    `recording` is the path of a file of any length, `source_files` those of its sources, if there
    are any, and `segments` what is said in it, where that is known.

    Args:
        dir: the folder: recordings, or `mix*/` with sources in `s1/`, `s2/`, ... as in LibriMix.
        mixture: which of its folders has the mixtures; None: the only one.
        reference: who says what and when, a .stm file or SegLST (.json), in which a recording has
            the name of its file without the ending; None: `reference.stm` or `reference.json` in
            the folder, if there is one.
        options: of `BaseDataset`.

    Attributes:
        has_targets: whether there is a reference.

    Raises:
        FileNotFoundError: there is no such folder or reference, or no recording in the folder.
        ValueError: the reference is damaged, lacks a recording, has several names for one, or
            names one that isn't in the folder.
    """

    def __init__(
        self,
        dir: str,
        mixture: str | None = None,
        reference: str | None = None,
        **options: Any,
    ):
        skip = options.get("on_error") == "skip"
        rows = find_rows(Path(dir), mixture, suffix="", needed=False, skip=skip)
        super().__init__(Manifest.from_rows(rows, Path(dir)), **options)
        own = (path for path in (Path(dir) / name for name in REFERENCES) if path.exists())
        path = Path(reference) if reference else next(own, None)
        self.has_targets = path is not None
        self.segments: dict[str, list[Segment]] = {}
        if path is not None:
            segments = read_segments(path)
            absent = dict.fromkeys(segments)
            for row in self.manifest:
                recording = str(row.audio_filepath)
                name = name_in(path, segments, Path(recording))
                self.segments[recording] = segments[name]
                absent.pop(name, None)
            if absent and not skip and len(self.manifest) == len(rows):  # no option left any out
                raise ValueError(f"{path}: no recording of {', '.join(absent)} in {dir}.")

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """Paths of a recording and its sources, and what is said in it."""
        path = str(row.audio_filepath)
        if self.on_error == "skip":  # an error while it is being separated would be too late
            check_readable(row.audio_filepath)
        item: Item = {"id": id, "path": path, "seed": seed, "recording": path}
        item["source_files"] = list(row.extra.get("sources") or [])
        if self.has_targets:
            item["segments"] = self.segments[path]
        return item


def name_in(reference: Path, segments: Mapping[str, Any], recording: Path) -> str:
    """The name that a recording has in a reference: that of its file, or one as safe as a file's.

    Raises:
        ValueError: it has none, or several.
    """
    if recording.stem in segments:
        return recording.stem
    safe = safe_name(recording.name)
    names = [name for name in segments if safe_name(f"{name}.") == safe]
    if not names:
        raise ValueError(f"{reference}: no segment of {recording}.")
    if len(names) > 1:
        raise ValueError(f"{reference}: {' and '.join(names)} may both be {recording}; rename one.")
    return names[0]
