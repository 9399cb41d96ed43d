"""Open STT (github.com/snakers4/open_stt): 20,000 hours of Russian calls, books, radio, videos."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from src.datasets.corpora.archives import Archive, fetch_archive, listed_checksum
from src.datasets.corpora.download import download as download_file
from src.datasets.manifest import cached_manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.tables import cell, iterate_table, read_text, seconds
from src.utils.audio_files import check_file

URL = "https://azureopendatastorage.blob.core.windows.net/openstt/ru_open_stt_opus"
CHECKSUMS = "https://raw.githubusercontent.com/snakers4/open_stt/master/md5sum.lst"
COLUMNS = ("wav_path", "text_path", "duration")
ENDINGS = (".opus", ".mp3", ".wav")  # of the same recording in the releases of the corpus


class OpenSTT(RecognitionDataset):
    """A part of the corpus: its manifest `NAME.csv`, and its folder `NAME` of hashed names.

    What isn't there is downloaded, in Opus.

    Args:
        name: of the part: public_youtube700_val, asr_calls_2_val, ...
        folder: holds `manifests/NAME.csv` or `NAME.csv`, and the unpacked archive, or will.
        download: whether to fetch a manifest or an archive that isn't there.
        options: of `RecognitionDataset`.

    Raises:
        FileNotFoundError: a recording or its text is missing; or the part isn't there and
            `download` is false.
        ValueError: there is no such part, the download fails, or a line of the manifest can't be
            read.
    """

    def __init__(
        self, name: str, folder: str = "data/open_stt", download: bool = True, **options: Any
    ):
        place = Path(folder)
        table = place / f"{name}.csv"
        if not table.exists():
            table = place / "manifests" / f"{name}.csv"
        if download:
            fetch_part(place, table, name)
        check_file(table, "manifest")
        manifest = cached_manifest(
            place / f"{name}.jsonl", lambda: read_rows(table, place), source=table
        )
        super().__init__(manifest, **options)


def fetch_part(folder: Path, table: Path, name: str) -> None:
    """Download the manifest and the archive of a part, those that aren't there.

    Args:
        folder: of the corpus.
        table: path of the manifest.
        name: of the part.

    Raises:
        ValueError: there is no such part, or the download fails.
    """
    if not table.exists():
        checksum = listed_checksum(CHECKSUMS, table.name)
        download_file(f"{URL}/manifests/{table.name}", table, checksum, "md5")
    if not (folder / name).exists():
        file = f"{name}.tar.gz"
        fetch_archive(Archive(f"{URL}/archives/{file}", file, name, CHECKSUMS, "md5"), folder)


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
