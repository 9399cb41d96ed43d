"""GigaSpeech (Chen et al., 2021): English podcasts, videos and audiobooks, up to 10,000 hours.

It is given on request only (github.com/SpeechColab/GigaSpeech), so it is read from a folder.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from src.datasets.manifest import cached_manifest
from src.datasets.recognition import RecognitionDataset
from src.utils.audio_files import check_file
from src.utils.options import check_choice, is_finite, shown

SUBSETS = ("XS", "S", "M", "L", "XL", "DEV", "TEST")
NO_SPEECH = {"<SIL>", "<MUSIC>", "<NOISE>", "<OTHER>"}
PUNCTUATION = {"<COMMA>", "<PERIOD>", "<QUESTIONMARK>", "<EXCLAMATIONPOINT>"}

BLOCK = 1 << 20  # characters read at a time
START = re.compile(r'"audios"\s*:\s*\[')
BETWEEN = re.compile(r"[\s,]*")
DECODER = json.JSONDecoder()


class GigaSpeech(RecognitionDataset):
    """A subset: the segments of GigaSpeech.json that belong to it, as parts of the recordings.

    Segments without speech are left out, and the tags of punctuation are removed from the text.

    Args:
        folder: holds GigaSpeech.json and audio/.
        subset: XS, S, M, L, XL, DEV or TEST.
        options: of `RecognitionDataset`.

    Raises:
        ValueError: there is no such subset, it is empty, or the JSON can't be read.
        FileNotFoundError: the JSON or a recording is missing.
    """

    def __init__(self, folder: str, subset: str, **options):
        check_choice("GigaSpeech: subset", subset, SUBSETS)
        path = Path(folder) / "GigaSpeech.json"
        check_file(path, "list of recordings")
        manifest = cached_manifest(
            path.with_name(f"{subset}.jsonl"), lambda: read_subset(path, f"{{{subset}}}"), path
        )
        super().__init__(manifest, **options)


def read_subset(path: Path, subset: str) -> Iterator[dict[str, Any]]:
    """Rows of a manifest for a subset.

    Args:
        path: of GigaSpeech.json.
        subset: as it is written there, e.g. `{XS}`.

    Raises:
        ValueError: an entry lacks something; names it.
    """
    for audio in tqdm(recordings(path), desc=f"reading {path.name}", unit="recording"):
        try:
            rows = segments(audio, subset)
            if rows:
                check_file(path.parent / audio["path"], "audio file")
        except (KeyError, TypeError, AttributeError) as error:
            name = shown(audio.get("aid")) if isinstance(audio, dict) else shown(audio)
            raise ValueError(f"{path}, recording {name}: lacks something ({error}).") from None
        yield from rows


def segments(audio: dict[str, Any], subset: str) -> list[dict[str, Any]]:
    """Rows for the segments of a recording that belong to a subset and have words.

    Raises:
        KeyError, TypeError, AttributeError: a value is missing or of another type.
    """
    rows = []
    for part in audio["segments"]:
        words = part["text_tn"].split()
        if subset not in part["subsets"] or NO_SPEECH & set(words):
            continue
        text = " ".join(word for word in words if word not in PUNCTUATION).lower()
        start, end = part["begin_time"], part["end_time"]
        if not is_finite(start) or not is_finite(end):
            raise TypeError(f"times {shown(start)} and {shown(end)}")
        if text and end > start:
            speaker = part.get("speaker")
            rows.append(
                {
                    "audio_filepath": audio["path"],
                    "offset": start,
                    "duration": round(end - start, 3),
                    "text": text,
                    "speaker": None if speaker == "N/A" else speaker,
                    "lang": "en",
                }
            )
    return rows


def recordings(path: Path) -> Iterator[Any]:
    """The values of the list `audios`, one at a time: the file has gigabytes.

    Raises:
        ValueError: it has no such list, or isn't JSON.
    """
    text = ""
    with path.open(encoding="utf-8", errors="replace") as file:
        while not (start := START.search(text)):
            text = text[-BLOCK:] + (block := file.read(BLOCK))
            if not block:
                raise ValueError(f"{path}: has no list 'audios'.")
        position = start.end()
        size = BLOCK
        while True:
            position = BETWEEN.match(text, position).end()  # type: ignore[union-attr]
            if text.startswith("]", position):
                return
            try:
                value, position = DECODER.raw_decode(text, position)
            except (ValueError, RecursionError):
                block = file.read(size)
                if not block:
                    raise ValueError(f"{path}: not whole, or not JSON.") from None
                text, position, size = text[position:] + block, 0, 2 * size
                continue
            size = BLOCK
            yield value
