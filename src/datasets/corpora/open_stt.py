"""Open STT (github.com/snakers4/open_stt): Russian, 20,000 hours of calls, books, radio and videos.

It is read from a folder: archives and manifests are linked in its README, their MD5s are in its
md5sum.lst.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from src.datasets.manifest import cached_manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.tables import cell, iterate_table, read_text, seconds
from src.utils.audio_files import check_file

COLUMNS = ("wav_path", "text_path", "duration")
ENDINGS = (".opus", ".mp3", ".wav")  # of the same recording in the releases of the corpus


class OpenSTT(RecognitionDataset):
    """A part of the corpus: its manifest `NAME.csv`, and its folder `NAME` of hashed names.

    Args:
        folder: holds `manifests/NAME.csv` or `NAME.csv`, and the unpacked archive.
        name: of the part: public_youtube700_val, asr_calls_2_val, ...
        options: of `RecognitionDataset`.

    Raises:
        FileNotFoundError: there is no such manifest, or a recording or its text is missing.
        ValueError: a line of the manifest can't be read.
    """

    def __init__(self, folder: str, name: str, **options):
        place = Path(folder)
        table = place / f"{name}.csv"
        if not table.exists() and (place / "manifests").is_dir():
            table = place / "manifests" / f"{name}.csv"
        check_file(table, "manifest")
        manifest = cached_manifest(
            place / f"{name}.jsonl", lambda: read_rows(table, place), source=table
        )
        super().__init__(manifest, **options)


def read_rows(table: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of a manifest for a table without a header.

    Args:
        table: of audio file, text file and duration.
        folder: that the files' paths are relative to.
    """
    lines = iterate_table(table, ",", columns=COLUMNS)
    for line in tqdm(lines, desc=f"reading {table.name}", unit="utterance"):
        audio, text, duration = (cell(table, line, column) for column in COLUMNS)
        yield {
            "audio_filepath": existing(folder, audio),
            "duration": seconds(table, line["line"], duration),
            "text": read_text(folder / text, "transcript").strip(),
            "lang": "ru",
        }


def existing(folder: Path, audio: str) -> str:
    """The path of a recording, whose ending may differ from that in the table.

    Raises:
        FileNotFoundError: there is none.
    """
    names = [audio, *(Path(audio).with_suffix(ending).as_posix() for ending in ENDINGS)]
    found = next((name for name in names if (folder / name).is_file()), audio)
    check_file(folder / found, "audio file")
    return found
