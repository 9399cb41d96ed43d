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
from src.datasets.mixtures.rooms import RecordedRooms, SimulatedRooms, reverberated
from src.datasets.mixtures.timeline import Timeline, total
from src.text_encoder.base import TextEncoder
from src.transforms.chain import Chain, apply_to_item
from src.utils.audio import read_audio
from src.utils.batch import BETWEEN_VOICES
from src.utils.options import check_choice, check_number, check_whole
from src.utils.random import generator, salted_seed, uniform

SPARE = 1.25  # times the segment is read, since a speed transform may shorten it
PEAK = 0.9
TARGETS = ("dry", "reverberant")


class DynamicMixtures(BaseDataset):
    """Items {id, path, seed, audio [T], sources [S, T], num_speakers} of manifests with speakers.

    With `texts` they also have `source_tokens` [S, L], of which padding is 0, CTC's blank, and
    `text`, the normalised texts of all sources, joined by ` | `. A silent source has no text.

    The i-th mixture has the i-th utterance as its first source, so that an epoch has each one
    once; the others are drawn from other speakers. All that is drawn follows from
    (seed, epoch, i). `num_speakers` is how many sources aren't silent.

    A mixture is made as it is recorded: utterances at their times, each at its place in a room,
    are added; noise is added; a microphone filters the sum; and what records it distorts it.

    Args:
        manifest: rows with `speaker`, or the path of one.
        num_speakers: in a mixture, at most; those that a mixture lacks are silent sources.
        min_speakers: the number is drawn from this one to `num_speakers`; None: always all.
        segment: seconds of a mixture, cut at random places, with silence around shorter
            utterances; None: whole utterances, cut to the shortest of a mixture unless there is a
            timeline.
        low, high: bounds of each source's level in dBFS (RMS), as it is heard.
        single_speaker_prob: probability of a mixture in which all but one speaker are silent.
        sources: name -> transform of one source before it is mixed, e.g. speed or a room; what a
            model should estimate is the transformed source.
        timeline: when the speakers speak; utterances are cut where a segment is too short for
            all. None: all at random places of the segment.
        room: where they speak; None: without reverberation.
        targets: what a model should estimate of a source in a room: `dry`, its direct sound, or
            `reverberant`, all that is heard of it.
        noises: name -> transform of the sum, e.g. noise at a signal-to-noise ratio.
        microphone: name -> transform of the mixture and the targets alike, such as a band.
        distortions: name -> transform of the mixture alone, such as clipping or a codec.
        texts: whether the items have the texts of their sources. Then utterances are whole, so
            that there must be a timeline, and no segment.
        text_encoder: normalises texts and makes tokens of them.
        limit: maximum number of mixtures; their first utterances are spread over the manifest.
            None: all.
        options: of `BaseDataset`.

    Raises:
        ValueError: a row has no speaker, there are fewer speakers than in a mixture, a room's
            response is longer than a segment, or an option has a bad value.
    """

    def __init__(
        self,
        manifest: Manifest | str,
        *,
        num_speakers: int = 2,
        min_speakers: int | None = None,
        segment: float | None = None,
        low: float = -33.0,
        high: float = -25.0,
        single_speaker_prob: float = 0.0,
        sources: Mapping[str, nn.Module] | None = None,
        timeline: Timeline | None = None,
        room: RecordedRooms | SimulatedRooms | None = None,
        targets: str = "dry",
        noises: Mapping[str, nn.Module] | None = None,
        microphone: Mapping[str, nn.Module] | None = None,
        distortions: Mapping[str, nn.Module] | None = None,
        texts: bool = False,
        text_encoder: TextEncoder | None = None,
        limit: int | None = None,
        **options: Any,
    ):
        check_whole("num_speakers", num_speakers)
        check_whole("min_speakers", min_speakers, 1, num_speakers, optional=True)
        check_number("segment", segment, high=3600, optional=True)
        check_number("low", low, low=-math.inf)
        check_number("high", high, low=low, inclusive=True)
        check_number("single_speaker_prob", single_speaker_prob, high=1, inclusive=True)
        check_choice("targets", targets, TARGETS)
        check_choice("texts", texts, (True, False))
        check_whole("limit", limit, optional=True)
        if texts and (segment is not None or timeline is None):
            raise ValueError("texts: true needs whole utterances: segment=null, and a timeline.")
        if not isinstance(manifest, Manifest):
            manifest = Manifest(Path(manifest))
        super().__init__(manifest, **options)
        self.pool = self.manifest  # from which the other speakers are drawn
        if limit is not None:
            size = len(self.pool)
            self.manifest = self.pool.select(np.linspace(0, size - 1, min(limit, size)).astype(int))
        self.num_speakers, self.segment, self.level = num_speakers, segment, (low, high)
        self.min_speakers = min_speakers
        self.single_speaker_prob, self.sources = single_speaker_prob, Chain(sources or {})
        self.timeline, self.room, self.targets = timeline, room, targets
        self.noises, self.microphone = Chain(noises or {}), Chain(microphone or {})
        self.distortions = Chain(distortions or {})
        self.text_encoder = self.checked_encoder(text_encoder) if texts else None
        if room is not None:
            self.check_room(room)
        self.rows_of = group_by_speaker(self.pool)
        if len(self.rows_of) < num_speakers:
            raise ValueError(
                f"{self.manifest.path}: {len(self.rows_of)} speakers, too few for mixtures of "
                f"{num_speakers}."
            )
        self.names = sorted(self.rows_of)

    def checked_encoder(self, text_encoder: TextEncoder | None) -> TextEncoder:
        """The text encoder, after a check that there are texts for it.

        Raises:
            ValueError: there is no text encoder, or a row has no text.
        """
        if text_encoder is None:
            raise ValueError("texts: true needs a text encoder, e.g. that of init.recogniser.")
        without = np.flatnonzero(~self.pool.has_text)
        if len(without):
            place = self.pool.place(int(without[0]))
            raise ValueError(f"{place}: no text, which texts: true needs.")
        return text_encoder

    def check_room(self, room: RecordedRooms | SimulatedRooms) -> None:
        """Check that responses have the sample rate and fit into a segment.

        Raises:
            ValueError: they don't.
        """
        if room.sample_rate != self.sample_rate:
            raise ValueError(
                f"room.sample_rate: {room.sample_rate}; {self.sample_rate}, that of the mixtures."
            )
        if self.segment is not None:
            room.check_longest(self.segment)

    @property
    def durations(self) -> np.ndarray:
        """Of the items, in seconds, [N]; without a segment the longest that they can be."""
        own = self.manifest.durations
        if self.segment is not None:
            return np.full_like(own, self.segment)
        if self.timeline is None:
            return own
        longest = self.timeline.longest(self.num_speakers, float(self.pool.durations.max()))
        return np.full_like(own, longest)

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """The mixture whose first source is a row."""
        draw = generator(seed, "mixture")
        rows = [row, *(self.pool[i] for i in self.draw_others(row, draw))]
        rows = rows[: self.draw_number(seed)]
        responses = None
        if self.room is not None:
            responses = self.room.draw(generator(seed, "room"), len(rows))
        texts = [""] * self.num_speakers
        if self.timeline is None:
            placed = self.place_anywhere(rows, responses, seed, draw)
        else:
            turns = self.draw_turns(self.timeline, rows, draw)
            placed = self.place_in_time(self.timeline, turns, responses, seed, draw)
            for speaker, spoken in turns:
                texts[speaker] = f"{texts[speaker]} {spoken.text or ''}".strip()
        levels = [uniform(draw, *self.level) for _ in rows]
        single = uniform(draw, 0, 1) < self.single_speaker_prob
        scaled = torch.stack(
            [at_level(signals, level) for signals, level in zip(placed, levels, strict=True)]
        )
        if single:
            scaled[1:] = 0
        if len(rows) < self.num_speakers:
            scaled = nn.functional.pad(scaled, (0, 0, 0, 0, 0, self.num_speakers - len(rows)))
        heard, sources = scaled[:, 0], scaled[:, 0 if self.targets == "reverberant" else -1]
        audio, sources = self.record(heard.sum(0), sources, seed)
        item: Item = {
            "id": "_".join([id, *(one.audio_filepath.stem for one in rows[1:])]),
            "path": str(row.audio_filepath),
            "seed": seed,
            "audio": audio,
            "sources": sources,
            "num_speakers": int(sources.abs().amax(1).count_nonzero()),
        }
        return item | self.targets_of(texts[:1] if single else texts)

    def targets_of(self, texts: list[str]) -> Item:
        """`text` and `source_tokens` of a mixture, if they are asked for.

        Args:
            texts: of the first sources; the others are silent.
        """
        if self.text_encoder is None:
            return {}
        texts = texts + [""] * (self.num_speakers - len(texts))
        tokens = [torch.tensor(self.text_encoder.encode(text)).long() for text in texts]
        return {
            "text": BETWEEN_VOICES.join(map(self.text_encoder.normalize, texts)),
            "source_tokens": nn.utils.rnn.pad_sequence(tokens, batch_first=True),
        }

    def record(self, audio: Tensor, sources: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """What is recorded of a mixture, and its targets.

        Args:
            audio: what is heard of all sources, [T].
            sources: the targets, [S, T].
            seed: of the item.
        """
        if len(self.noises):
            audio = apply(self.noises, audio[None], salted_seed(seed, "noises"))[0]
        if len(self.microphone):
            signals = torch.cat([audio[None], sources])
            signals = apply(self.microphone, signals, salted_seed(seed, "microphone"))
            audio, sources = signals[0], signals[1:]
        peak = max(audio.abs().max().item(), sources.abs().max().item())
        if peak > PEAK:
            audio, sources = audio * (PEAK / peak), sources * (PEAK / peak)
        if len(self.distortions):
            audio = apply(self.distortions, audio[None], salted_seed(seed, "distortions"))[0]
        return audio, sources

    def draw_number(self, seed: int) -> int:
        """How many speak in a mixture."""
        if self.min_speakers is None:
            return self.num_speakers
        return int(uniform(generator(seed, "speakers"), self.min_speakers, self.num_speakers + 1))

    def draw_others(self, row: Row, draw: torch.Generator) -> list[int]:
        """Indices of utterances of other speakers than a row's, one for each further source."""
        others = [name for name in self.names if name != row.speaker]
        chosen = torch.randperm(len(others), generator=draw)[: self.num_speakers - 1].tolist()
        candidates = [self.rows_of[others[k]] for k in chosen]
        return [int(rows[int(uniform(draw, 0, len(rows)))]) for rows in candidates]

    def place_anywhere(
        self, rows: list[Row], responses: list[Tensor] | None, seed: int, draw: torch.Generator
    ) -> Tensor:
        """Utterances at random places of a segment, or without one cut to the shortest, [S, K, T].

        Args:
            rows: one for each speaker.
            responses: of the room, [R] for each speaker.
            seed: of the item.
            draw: of the mixture.

        Returns:
            K is 1; in a room 2, what is heard and its direct sound.
        """
        parts = [self.source(one, seed + k, draw) for k, one in enumerate(rows)]
        size = round(self.segment * self.sample_rate) if self.segment else min(map(len, parts))
        return torch.stack(
            [place(self.in_room(part, responses, k), size, draw) for k, part in enumerate(parts)]
        )

    def draw_turns(
        self, timeline: Timeline, rows: list[Row], draw: torch.Generator
    ) -> list[tuple[int, Row]]:
        """The speaker and the utterance of each turn, by their starts."""
        order = timeline.draw_order(draw, len(rows))
        return [
            (k, rows[k] if order.index(k) == i else self.another(rows[k], draw))
            for i, k in enumerate(order)
        ]

    def place_in_time(
        self,
        timeline: Timeline,
        turns: list[tuple[int, Row]],
        responses: list[Tensor] | None,
        seed: int,
        draw: torch.Generator,
    ) -> Tensor:
        """Utterances at the times of a timeline, [S, K, T], as of `place_anywhere`.

        Where a segment is too short for them, all utterances and pauses are shortened alike, so
        that overlaps stay as they were drawn.
        """
        order = [speaker for speaker, _ in turns]
        parts = [self.source(row, seed + i, draw) for i, (_, row) in enumerate(turns)]
        lengths = [len(part) / self.sample_rate for part in parts]
        starts = timeline.draw_starts(draw, order, lengths)
        whole = total(starts, lengths)
        seconds = whole if self.segment is None else self.segment
        shorter = min(1.0, seconds / whole)
        size = round(seconds * self.sample_rate)
        offset = uniform(draw, 0, max(0.0, seconds - whole))
        placed = torch.zeros(len(set(order)), 1 if responses is None else 2, size)
        for part, k, start in zip(parts, order, starts, strict=True):
            kept = max(1, int(len(part) * shorter))
            cut = int(uniform(draw, 0, len(part) - kept + 1))
            signals = self.in_room(part[cut : cut + kept], responses, k)
            first = min(round((offset + start * shorter) * self.sample_rate), size - 1)
            signals = signals[:, : size - first]
            placed[k, :, first : first + signals.shape[1]] += signals
        return placed

    def another(self, row: Row, draw: torch.Generator) -> Row:
        """A random utterance of the speaker of a row."""
        own = self.rows_of[row.speaker or ""]
        return self.pool[int(own[int(uniform(draw, 0, len(own)))])]

    def in_room(self, source: Tensor, responses: list[Tensor] | None, speaker: int) -> Tensor:
        """A source [T] as it is heard and its direct sound, [2, T']; without a room [1, T]."""
        if responses is None:
            return source[None]
        return reverberated(source, responses[speaker], self.sample_rate)

    def source(self, row: Row, seed: int, draw: torch.Generator) -> Tensor:
        """An utterance or a part of it, transformed, [T']."""
        offset, seconds = row.offset, row.duration
        if self.segment is not None and row.duration > SPARE * self.segment:
            seconds = SPARE * self.segment
            offset += uniform(draw, 0, row.duration - seconds)
        audio = read_audio(row.audio_filepath, self.sample_rate, offset, seconds)
        item = {"id": row.audio_filepath.stem, "seed": seed, "audio": audio}
        return apply_to_item(self.sources, item)["audio"] if len(self.sources) else audio


def apply(chain: Chain, signals: Tensor, seed: int) -> Tensor:
    """Signals [K, T] of one item, all transformed with the same random numbers.

    Raises:
        ValueError: a transform changes their length.
    """
    items = [apply_to_item(chain, {"seed": seed, "audio": signal}) for signal in signals]
    for item in items:
        if item["audio"].shape != signals.shape[1:]:
            raise ValueError(
                f"{', '.join(chain)}: {signals.shape[1]} samples became {len(item['audio'])}; a "
                "mixture keeps its length."
            )
    return torch.stack([item["audio"] for item in items])


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


def place(signals: Tensor, size: int, draw: torch.Generator) -> Tensor:
    """`size` samples of signals [K, T] from a random place; shorter ones, with silence around."""
    spare = signals.shape[1] - size
    start = int(uniform(draw, 0, abs(spare) + 1))
    if spare >= 0:
        return signals[:, start : start + size]
    return nn.functional.pad(signals, (start, -spare - start))


def at_level(signals: Tensor, level: float) -> Tensor:
    """Signals [K, T], the first of them at an RMS level in dBFS, the others by the same gain.

    The level is measured where the first one isn't silent; silence is unchanged.
    """
    energy = signals[0].square()
    active = energy > 1e-4 * energy.mean()  # pauses and padding don't make a speaker louder
    rms = (energy.sum() / active.sum().clamp(min=1)).sqrt()
    return signals * (10 ** (level / 20) / rms) if rms > 0 else signals
