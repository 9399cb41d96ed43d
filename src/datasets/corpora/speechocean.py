"""speechocean762 (Zhang et al., 2021): English of Mandarin speakers with scores, openslr.org/101.

No checksum is published, so it is read from a folder.
"""

import json
from pathlib import Path
from typing import Any

from src.datasets.corpora.forms import pairs, placed, rows_of_kaldi
from src.datasets.manifest import cached_manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.splitting import part_by_hash, speaker_of
from src.datasets.tables import read_text
from src.utils.audio_files import check_file
from src.utils.options import check_choice

SCORES = ("accuracy", "completeness", "fluency", "prosodic", "total")
PARTS = {"val": (0.0, 0.1), "train": (0.1, 1.0)}  # of the speakers of the training set


class SpeechOcean762(RecognitionDataset):
    """A split; its rows have the scores of each sentence, and age and gender of the speaker.

    No validation set is published: `val` has a tenth of the speakers of the training set, and
    `train` the others.

    Args:
        folder: holds `train/`, `test/`, `WAVE/` and `resource/scores.json`.
        split: train, val or test.
        options: of `RecognitionDataset`.

    Raises:
        ValueError: there is no such split, or a file can't be read.
        FileNotFoundError: a file is missing.
    """

    def __init__(self, folder: str, split: str, **options):
        check_choice("speechocean762: split", split, ("train", "val", "test"))
        place, name = Path(folder), "test" if split == "test" else "train"
        manifest = cached_manifest(place / f"{name}.jsonl", lambda: read_split(place, name))
        if split != "test":
            manifest = part_by_hash(manifest, speaker_of, PARTS[split])
        super().__init__(manifest, **options)


def read_split(place: Path, split: str) -> list[dict[str, Any]]:
    """Rows of a manifest for a split, which has the form of Kaldi."""
    for name in ("text", "utt2spk"):
        check_file(place / split / name, "file")
    scores = read_scores(place / "resource" / "scores.json")
    ages, genders = (pairs(place / split / name) for name in ("spk2age", "spk2gender"))
    rows = []
    for name, row in zip(
        pairs(place / split / "wav.scp"), rows_of_kaldi(place / split, root=place), strict=True
    ):
        own = {"text": row["text"].lower(), "lang": "en"}
        own |= {"age": ages.get(row["speaker"]), "gender": genders.get(row["speaker"])}
        own |= {key: scores.get(name, {}).get(key) for key in SCORES}
        rows.append(placed(row | own, place))
    return rows


def read_scores(path: Path) -> dict[str, Any]:
    """The scores of each utterance.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't a JSON object of objects.
    """
    try:
        scores = json.loads(read_text(path, "file of scores"))
    except (json.JSONDecodeError, RecursionError):
        scores = None
    if not isinstance(scores, dict) or not all(isinstance(one, dict) for one in scores.values()):
        raise ValueError(f"{path}: wanted a JSON object with the scores of each utterance.")
    return scores
