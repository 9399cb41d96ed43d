"""Conversations: the voices of a recording, and who said what and when."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from src.tasks.base import Task
from src.tasks.recognition import write_text
from src.text_encoder.alignment import Word
from src.utils.audio import Recording
from src.utils.options import check_number
from src.utils.resampling import resample
from src.utils.segments import Segment, seglst, stm

BLOCK = 0.01  # seconds over which levels are measured
LISTENED = 60  # seconds of a recording that a report plays
TOGETHER = "all"  # folder with the segments of all recordings, to be scored by meeteval
Voices = dict[int, list[Word]]  # number of a stream, from 1 -> its words


class ConversationTask(Task):
    """Makes segments of the words of separated voices, and writes them.

    Args:
        sample_rate: of the signals that a report plays, in Hz.
        pause: seconds without a word, after which a voice's next segment begins.
        leakage_db: a word is left out where its stream is that much weaker than another one, since
            it leaked from there; None: no word is.

    Raises:
        ValueError: a value is out of range.
    """

    name = "conversation"
    inference = "inference_conversation"
    sort_by = "cpWER"

    def __init__(self, sample_rate: int, pause: float = 0.8, leakage_db: float | None = -20.0):
        check_number("task.pause", pause)
        check_number("task.leakage_db", leakage_db, -200.0, high=0.0, optional=True)
        self.sample_rate, self.pause, self.leakage_db = sample_rate, pause, leakage_db

    def without_leakage(self, voices: Voices, recording: Any) -> Voices:
        """The words that don't come from another stream.

        Args:
            voices: of the streams that aren't silent.
            recording: `SeparatedRecording`.
        """
        if self.leakage_db is None or len(voices) < 2:
            return voices
        levels, lowest = recording.levels(BLOCK), 10 ** (self.leakage_db / 10)

        def power(stream: int, word: Word) -> float:
            first = int(word.start / BLOCK)
            own = levels[stream - 1, first : max(first + 1, round(word.end / BLOCK))]
            return float(own.mean()) if len(own) else 0.0

        return {
            stream: [
                word
                for word in words
                if power(stream, word) >= lowest * max(power(other, word) for other in voices)
            ]
            for stream, words in voices.items()
        }

    def segments(self, voices: Voices) -> list[Segment]:
        """The segments of all voices by their start, times in whole milliseconds."""
        return [segment for segment, _ in self.spoken(voices)]

    def spoken(self, voices: Voices) -> list[tuple[Segment, list[Word]]]:
        """The segments of all voices by their start, each with its words."""
        found = [
            (segment_of(str(stream), words), words)
            for stream, own in voices.items()
            for words in self.between_pauses(own)
        ]
        return sorted(found, key=lambda one: (one[0].start, one[0].speaker))

    def between_pauses(self, words: list[Word]) -> Iterator[list[Word]]:
        """The words of each segment."""
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
            spoken = self.spoken(voices)
            write_text(directory / f"{name}.txt", "".join(line(one) for one, _ in spoken))
            write_text(directory / f"{name}.stm", stm(name, [one for one, _ in spoken]))
            rows = [
                row | {"word_times": [times(word) for word in words]}
                for one, words in spoken
                for row in seglst(name, [one])
            ]
            text = json.dumps(rows, ensure_ascii=False, indent=1)
            write_text(directory / f"{name}.json", text + "\n")
            for kind in ("separated", "reference", "mixture", "sources"):
                segments = batch.get(f"{kind}_segments", [None] * len(id))[item]
                if segments is not None:
                    path = directory / TOGETHER / f"{kind}.stm"
                    with path.open("a", encoding="utf-8") as file:
                        file.write(stm(name, segments))

    def signals(self, item: int, **batch: Any) -> dict[str, Tensor | Recording]:
        """The first minute of a recording and of its voices: title -> [T].

        Args:
            item: index in the batch.
            batch: after the evaluation step.
        """
        rate, recording = self.sample_rate, batch["separated"][item]
        if "recording" in batch:
            mixture = Recording(Path(batch["recording"][item]), rate)[: LISTENED * rate]
        else:
            mixture = batch["audio"][item, : int(batch["audio_length"][item])][: LISTENED * rate]
        streams = resample(recording.beginning(LISTENED), recording.sample_rate, rate)
        named = {f"voice_{k}": streams[k - 1] for k in batch["voices"][item]}
        return {"mixture": mixture} | named

    def details(self, id: list[str], **batch: Any) -> list[dict]:
        """The duration of each recording.

        Args:
            id: names of the recordings.
            batch: after the evaluation step.
        """
        return [{"seconds": round(one.seconds(), 3)} for one in batch["separated"]]


def segment_of(speaker: str, words: list[Word]) -> Segment:
    """The segment of some words."""
    text = " ".join(word.text for word in words)
    return Segment(speaker, round(words[0].start, 3), round(words[-1].end, 3), text)


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
