"""Who said what and when: segments of a recording, in .stm files (NIST) and SegLST (JSON)."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.utils.files import read_bytes
from src.utils.options import is_finite, shown

STM_FIELDS = 5  # before the text: recording, channel, speaker, start, end
SEGLST_KEYS = ("session_id", "speaker", "start_time", "end_time", "words")


@dataclass(frozen=True)
class Segment:
    """What a speaker says without a pause.

    Attributes:
        speaker: name, or the number of a stream.
        start, end: in seconds.
        text: words with spaces between them.
    """

    speaker: str
    start: float
    end: float
    text: str


NOTHING = Segment("1", 0.0, 0.0, "")


def stm(recording: str, segments: list[Segment]) -> str:
    """Lines `<recording> 1 <speaker> <start> <end> <text>`, times in seconds.

    Args:
        recording: its name.
        segments: of the recording; without any there is a line without text, by which scoring
            knows the recording. White space in names becomes `_`, because fields are split by it.
    """
    lines = (
        f"{one_word(recording)} 1 {one_word(own.speaker)} {own.start:.3f} {own.end:.3f} "
        f"{' '.join(own.text.split())}"
        for own in segments or [NOTHING]
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)


def one_word(name: str) -> str:
    """A name with `_` for white space."""
    return "_".join(name.split())


def seglst(recording: str, segments: list[Segment]) -> list[dict[str, Any]]:
    """Segments as the dicts of SegLST.

    Args:
        recording: its name.
        segments: of the recording.
    """
    return [
        dict(zip(SEGLST_KEYS, (recording, own.speaker, own.start, own.end, own.text), strict=True))
        for own in segments
    ]


def read_segments(path: Path) -> dict[str, list[Segment]]:
    """The segments of each recording in a .stm file, or in a .json file in the form of SegLST.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it ends otherwise, or a segment is damaged; names it.
    """
    if path.suffix not in (".stm", ".json"):
        raise ValueError(f"{path}: a file that ends with .stm or .json (SegLST) is wanted.")
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8.") from None
    segments: dict[str, list[Segment]] = defaultdict(list)
    for place, fields in stm_fields(text) if path.suffix == ".stm" else seglst_fields(text, path):
        if fields is None:
            raise ValueError(f"{path}, {place}: not {', '.join(SEGLST_KEYS)} of a segment.")
        recording, speaker, start, end, words = fields
        try:
            begins, ends = float(start), float(end)
        except (TypeError, ValueError):
            begins = ends = float("nan")
        if not (is_finite(begins) and is_finite(ends) and 0 <= begins <= ends):
            raise ValueError(
                f"{path}, {place}: times {shown(start)} and {shown(end)}; seconds, the start first."
            )
        segments[str(recording)].append(Segment(str(speaker), begins, ends, str(words)))
    return dict(segments)


def stm_fields(text: str) -> list[tuple[str, list[Any] | None]]:
    """Place and fields of each line of a .stm file; None where there are too few."""
    found: list[tuple[str, list[Any] | None]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith(";;"):
            continue
        recording, *fields = line.split(maxsplit=STM_FIELDS)
        words = fields.pop() if len(fields) == STM_FIELDS else ""
        if words.startswith("<"):  # a label such as <o,f0,male>
            words = words.partition(">")[2].strip()
        enough = len(fields) == STM_FIELDS - 1
        found.append((f"line {number}", [recording, *fields[1:], words] if enough else None))
    return found


def seglst_fields(text: str, path: Path) -> list[tuple[str, list[Any] | None]]:
    """Place and fields of each segment of SegLST; None where a key is missing.

    Raises:
        ValueError: it is no list in JSON.
    """
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list):
        raise ValueError(f"{path}: not a list in JSON.")
    return [
        (
            f"segment {number}",
            [row[key] for key in SEGLST_KEYS]
            if isinstance(row, dict) and row.keys() >= set(SEGLST_KEYS)
            else None,
        )
        for number, row in enumerate(rows, start=1)
    ]
