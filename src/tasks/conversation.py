"""Conversations: the voices of a recording, and who said what and when."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.tasks.base import Task
from src.tasks.recognition import write_text
from src.text_encoder.alignment import Word
from src.utils.audio import Recording
from src.utils.options import check_number
from src.utils.resampling import resample
from src.utils.segments import Segment, seglst, stm

SMOOTHED = 0.15  # seconds over which levels are averaged
FLOOR = 1e-7  # mean square, below which audio is silent (-70 dBFS)
SHORTEST = 0.1  # seconds that may be a word
MARGIN = 0.1  # seconds that are transcribed before and after the part in which a voice speaks
LISTENED = 60  # seconds of a recording that a report plays
TOGETHER = "all"  # folder with the segments of all recordings, to be scored by meeteval
Span = tuple[float, float]
Voices = dict[int, list[list[Word]]]  # number of a stream, from 1 -> the words of its utterances


class ConversationTask(Task):
    """Finds where voices speak, makes segments of their words, and writes them.

    Args:
        sample_rate: of the signals that a report plays, in Hz.
        pause: seconds of silence, or without a word, at which a voice's segment ends.
        quiet_db: relative to the loudest part of a voice, below which it is silent.
        leakage_db: relative to the other voices, below which a voice is what leaked from them; None
            takes nothing for that.
        lead_db: relative to the other voices, which a voice reaches somewhere in each stretch above
            `leakage_db`, or it's the strongest voice there; otherwise all of the stretch leaked. A
            second threshold, as of hysteresis; None: there is none.
        alone_db: relative to a voice, below which all others together are what leaked from it, so
            that it's alone; there the mixture has fewer artefacts. None: it never is.

    Raises:
        ValueError: a value is out of range.
    """

    name = "conversation"
    inference = "inference_conversation"
    sort_by = "cpWER"

    def __init__(
        self,
        sample_rate: int,
        pause: float = 0.8,
        quiet_db: float = -40.0,
        leakage_db: float | None = -6.0,
        lead_db: float | None = 10.0,
        alone_db: float | None = -8.0,
    ):
        check_number("task.pause", pause, 2 * MARGIN)
        check_number("task.quiet_db", quiet_db, -200.0, high=0.0)
        check_number("task.leakage_db", leakage_db, -200.0, high=0.0, optional=True)
        check_number("task.lead_db", lead_db, -200.0, high=200.0, optional=True)
        check_number("task.alone_db", alone_db, -200.0, high=0.0, optional=True)
        self.sample_rate, self.pause = sample_rate, pause
        self.quiet_db, self.leakage_db = quiet_db, leakage_db
        self.lead_db, self.alone_db = lead_db, alone_db

    def spoken(self, powers: np.ndarray, seconds: float) -> list[list[Span]]:
        """Where each voice speaks.

        Args:
            powers: mean square of each voice in consecutive blocks, [S, N].
            seconds: of a block.

        Returns:
            For each voice the first and last second of each part.
        """
        if not powers.shape[1]:
            return [[] for _ in powers]
        level = smoothed(powers, seconds)
        found = []
        for k, own in enumerate(level):
            speaks = own > max(FLOOR, 10 ** (self.quiet_db / 10) * own.max())
            speaks = self.without_leakage(speaks, own, np.delete(level, k, 0))
            sound = np.flatnonzero(powers[k] > FLOOR)
            parts = joined(speaks, round(self.pause / seconds))
            margin = round(MARGIN / seconds)
            spans = [with_margin(start, end, margin, sound) for start, end in parts]
            shortest = SHORTEST / seconds
            found.append(
                [
                    (first * seconds, after * seconds)
                    for first, after in spans
                    if after - first >= shortest
                ]
            )
        return found

    def without_leakage(
        self, sounds: np.ndarray, own: np.ndarray, others: np.ndarray
    ) -> np.ndarray:
        """Blocks in which a voice isn't what leaked from the others, bool [N].

        Args:
            sounds: blocks in which it isn't silent, bool [N].
            own: smoothed mean squares of the voice, [N].
            others: those of the others, [S - 1, N].
        """
        if self.leakage_db is None or not len(others):
            return sounds
        loudest = others.max(0)
        found = sounds & (own >= 10 ** (self.leakage_db / 10) * loudest)
        if self.lead_db is None:
            return found
        leads = own >= 10 ** (self.lead_db / 10) * loudest
        for start, end in joined(found, 1):
            strongest = own[start:end].sum() >= others[:, start:end].sum(1).max()
            found[start:end] = strongest or leads[start:end].any()
        return found

    def alone(self, powers: np.ndarray, seconds: float) -> np.ndarray:
        """Blocks in which a voice is the only one, bool [S, N].

        Args:
            powers: mean square of each voice in consecutive blocks, [S, N].
            seconds: of a block.
        """
        if self.alone_db is None or not powers.shape[1]:
            return np.zeros(powers.shape, dtype=bool)
        level = smoothed(powers, seconds)
        return (level > FLOOR) & (level.sum(0) - level <= 10 ** (self.alone_db / 10) * level)

    def utterances(self, words: list[Word]) -> Iterator[list[Word]]:
        """The words between pauses."""
        own: list[Word] = []
        for word in words:
            if own and word.start - own[-1].end >= self.pause:
                yield own
                own = []
            own.append(word)
        if own:
            yield own

    def save(self, directory: Path, id: list[str], **batch: Any) -> None:
        """Write the voices and who said what.

        `s1/<id>.wav`, `s2/<id>.wav`, ... of the streams that aren't silent; `<id>.txt` to be read;
        `<id>.stm`; and `<id>.json`, SegLST with the time and confidence of each word. In `all/` are
        the segments of all recordings, `separated.stm`, and where the reference is known
        `reference.stm`, `mixture.stm` and `sources.stm`.

        Args:
            directory: an existing folder.
            id: names of the recordings.
            batch: after the evaluation step.
        """
        (directory / TOGETHER).mkdir(exist_ok=True)
        for item, name in enumerate(id):
            voices, recording = batch["voices"][item], batch["separated"][item]
            recording.save(directory, name, "mixture", voices.keys())
            segments = segments_of(voices)
            write_text(directory / f"{name}.txt", "".join(line(one) for one, _ in segments))
            write_text(directory / f"{name}.stm", stm(name, [one for one, _ in segments]))
            rows = [
                row | {"word_times": [times(word) for word in words]}
                for one, words in segments
                for row in seglst(name, [one])
            ]
            text = json.dumps(rows, ensure_ascii=False, indent=1)
            write_text(directory / f"{name}.json", text + "\n")
            for kind in ("separated", "reference", "mixture", "sources"):
                own = batch.get(f"{kind}_segments", [None] * len(id))[item]
                if own is not None:
                    path = directory / TOGETHER / f"{kind}.stm"
                    with path.open("a", encoding="utf-8") as file:
                        file.write(stm(name, own))

    def signals(self, item: int, **batch: Any) -> dict[str, Tensor | Recording]:
        """The first minute of a recording and of its voices: title -> [T].

        Args:
            item: index in the batch.
            batch: after the evaluation step.
        """
        rate, recording = self.sample_rate, batch["separated"][item]
        mixture: Tensor | Recording
        if "recording" in batch:
            mixture = Recording(Path(batch["recording"][item]), rate)[: LISTENED * rate]
        else:
            mixture = batch["audio"][item, : int(batch["audio_length"][item])][: LISTENED * rate]
        streams = resample(recording.beginning(LISTENED), recording.sample_rate, rate)
        return {"mixture": mixture} | {f"voice_{k}": streams[k - 1] for k in batch["voices"][item]}

    def details(self, id: list[str], **batch: Any) -> list[dict]:
        """The duration of each recording.

        Args:
            id: names of the recordings.
            batch: after the evaluation step.
        """
        return [{"seconds": round(one.seconds(), 3)} for one in batch["separated"]]


def smoothed(powers: np.ndarray, seconds: float) -> np.ndarray:
    """Mean squares [S, N] of blocks, averaged over `SMOOTHED`.

    Args:
        powers: mean square of each voice in consecutive blocks, [S, N], at least one.
        seconds: of a block.
    """
    window = np.ones(max(1, round(SMOOTHED / seconds)))
    count = powers.shape[1]
    return np.stack([np.convolve(own, window / len(window), "same")[:count] for own in powers])


def joined(mask: np.ndarray, pause: int) -> list[tuple[int, int]]:
    """First block and the one after the last of each part where a mask [N] is true.

    Args:
        mask: of blocks.
        pause: blocks, of which fewer between two parts make one of them.
    """
    edges = np.flatnonzero(np.diff(np.pad(mask.astype(np.int8), 1))).reshape(-1, 2)
    parts: list[tuple[int, int]] = []
    for start, end in edges.tolist():
        first = parts.pop()[0] if parts and start - parts[-1][1] < pause else start
        parts.append((first, end))
    return parts


def with_margin(start: int, end: int, margin: int, sound: np.ndarray) -> tuple[int, int]:
    """A part with margins, which hold no digital silence: few recognisers have learnt that.

    Args:
        start, end: first block of the part and the one after its last.
        margin: blocks on either side.
        sound: indices of all blocks with sound.
    """
    inside = sound[np.searchsorted(sound, start - margin) : np.searchsorted(sound, end + margin)]
    return (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (start, start)


def segments_of(voices: Voices) -> list[tuple[Segment, list[Word]]]:
    """The segments of all voices by their start, times in whole milliseconds, with their words."""
    found = []
    for stream, utterances in voices.items():
        for words in utterances:
            text = " ".join(word.text for word in words)
            start, end = round(words[0].start, 3), round(words[-1].end, 3)
            found.append((Segment(str(stream), start, end, text), words))
    return sorted(found, key=lambda one: (one[0].start, one[0].speaker))


def line(segment: Segment) -> str:
    """A line like `[0:00:01.50 - 0:00:03.20] 1: text`."""
    return f"[{clock(segment.start)} - {clock(segment.end)}] {segment.speaker}: {segment.text}\n"


def clock(seconds: float) -> str:
    """Seconds as `hours:minutes:seconds`, with hundredths."""
    minutes, left = divmod(round(100 * seconds), 6000)
    return f"{minutes // 60}:{minutes % 60:02}:{left // 100:02}.{left % 100:02}"


def times(word: Word) -> list[Any]:
    """Text, start, end and confidence of a word."""
    return [word.text, *(round(one, 3) for one in (word.start, word.end, word.confidence))]


def by_speaker(segments: list[Segment]) -> str:
    """What each speaker says, in one line: `A: ... | B: ...`."""
    texts: dict[str, list[str]] = {}
    for segment in sorted(segments, key=lambda one: one.start):
        texts.setdefault(segment.speaker, []).append(segment.text)
    return " | ".join(f"{name}: {' '.join(own)}" for name, own in texts.items())
