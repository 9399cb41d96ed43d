"""Mozilla Common Voice: TSV files and mp3 clips, as they are downloaded from its site."""

from pathlib import Path

from tqdm.auto import tqdm

from src.datasets.manifest import Manifest, cached_manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.tables import cell, check_columns, read_table
from src.utils.audio_files import check_file, full_duration

COLUMNS = ("path", "sentence")


class CommonVoice(RecognitionDataset):
    """A split of one language of Common Voice.

    Args:
        folder: of the language: holds `<split>.tsv` and `clips/`.
        split: train, dev, test, validated, ...
        options: of `RecognitionDataset`.

    Raises:
        FileNotFoundError: there is no such TSV file, or a clip is missing.
        ValueError: the TSV file isn't one, or lacks a column or a cell; or a clip can't be read.
    """

    def __init__(self, folder: str, split: str, **options):
        super().__init__(index_split(Path(folder), split), **options)


def index_split(folder: Path, split: str) -> Manifest:
    """The manifest of a split, kept beside its TSV file."""
    table = folder / f"{split}.tsv"
    check_file(table, "table")
    return cached_manifest(folder / f"{split}.jsonl", lambda: read_clips(table), source=table)


def read_clips(table: Path) -> list[dict]:
    """Rows of a manifest for the clips of a TSV file."""
    lines = read_table(table, "\t", quoted=False)
    check_columns(table, lines, COLUMNS)
    bar = tqdm(lines, desc=f"reading {table.name}", unit="clip")
    return [make_row(table, line) for line in bar]


def make_row(table: Path, line: dict) -> dict:
    """The row of a clip, whose duration is that of its file."""
    name = f"clips/{cell(table, line, 'path')}"
    return {
        "audio_filepath": name,
        "duration": full_duration(table.parent / name),
        "text": cell(table, line, "sentence", may_be_empty=True),
        "speaker": line.get("client_id") or None,
        "lang": line.get("locale") or None,
    }
