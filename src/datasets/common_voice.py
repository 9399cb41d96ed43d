"""Mozilla Common Voice: TSV files and mp3 clips, as they are downloaded from its site."""

import csv
from pathlib import Path

from tqdm.auto import tqdm

from src.datasets.base_dataset import BaseDataset
from src.datasets.manifest import Manifest, write_manifest
from src.utils.audio import audio_info

COLUMNS = ("path", "sentence")


class CommonVoice(BaseDataset):
    """A split of one language.

    Args:
        folder: of the language: holds `<split>.tsv` and `clips/`.
        split: train, dev, test, validated, ...
        options: of `BaseDataset`.

    Raises:
        FileNotFoundError: there is no such TSV file, or a clip is missing.
        ValueError: the TSV file lacks a column.
    """

    def __init__(self, folder: str, split: str, **options):
        super().__init__(Manifest(index_split(Path(folder), split)), **options)


def index_split(folder: Path, split: str) -> Path:
    """Write the manifest of a split beside its TSV file, once."""
    table, path = folder / f"{split}.tsv", folder / f"{split}.jsonl"
    if not table.exists():
        raise FileNotFoundError(f"{table}: no such file of Common Voice.")
    if not path.exists():
        with table.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        for column in COLUMNS:
            if not lines or column not in lines[0]:
                raise ValueError(f"{table}: has no rows with a column '{column}'.")
        bar = tqdm(lines, desc=f"reading {table.name}", unit="clip")
        write_manifest(path, [make_row(folder, line) for line in bar])
    return path


def make_row(folder: Path, line: dict[str, str]) -> dict:
    """The row of a clip; the length of the file decides its duration."""
    name = f"clips/{line['path']}"
    return {
        "audio_filepath": name,
        "duration": audio_info(folder / name).duration,
        "text": line["sentence"],
        "speaker": line.get("client_id") or None,
        "lang": line.get("locale") or None,
    }
