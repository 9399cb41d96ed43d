"""Mozilla Common Voice: TSV files and mp3 clips, as they are downloaded from its site."""

import csv
from pathlib import Path

from tqdm.auto import tqdm

from src.datasets.base_dataset import BaseDataset
from src.datasets.manifest import Manifest, cached_manifest
from src.utils.audio import full_duration

COLUMNS = ("path", "sentence")


class CommonVoice(BaseDataset):
    """A split of one language.

    Args:
        folder: of the language: holds `<split>.tsv` and `clips/`.
        split: train, dev, test, validated, ...
        options: of `BaseDataset`.

    Raises:
        FileNotFoundError: there is no such TSV file, or a clip is missing.
        ValueError: the TSV file lacks a column, or a clip is empty or can't be read.
    """

    def __init__(self, folder: str, split: str, **options):
        super().__init__(index_split(Path(folder), split), **options)


def index_split(folder: Path, split: str) -> Manifest:
    """The manifest of a split, kept beside its TSV file."""
    table = folder / f"{split}.tsv"
    if not table.exists():
        raise FileNotFoundError(f"{table}: no such file of Common Voice.")
    return cached_manifest(folder / f"{split}.jsonl", lambda: read_table(table), source=table)


def read_table(table: Path) -> list[dict]:
    """The rows of a TSV file."""
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for column in COLUMNS:
        if not lines or column not in lines[0]:
            raise ValueError(f"{table}: has no rows with a column '{column}'.")
    bar = tqdm(lines, desc=f"reading {table.name}", unit="clip")
    return [make_row(table.parent, line) for line in bar]


def make_row(folder: Path, line: dict[str, str]) -> dict:
    """The row of a clip; the length of the file decides its duration."""
    name = f"clips/{line['path']}"
    return {
        "audio_filepath": name,
        "duration": full_duration(folder / name),
        "text": line["sentence"],
        "speaker": line.get("client_id") or None,
        "lang": line.get("locale") or None,
    }
