"""AN4 (CMU, 1991): spelt names, addresses and numbers in English, less than an hour.

No checksum is published, so it is read from a folder: the unpacked an4_sphere.tar.gz of
www.speech.cs.cmu.edu/databases/an4.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from src.datasets.manifest import cached_manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.splitting import part_by_hash, speaker_of
from src.datasets.tables import read_lines
from src.utils.audio_files import full_duration
from src.utils.options import check_choice, shown

AUDIO = {"train": "wav/an4_clstk", "test": "wav/an4test_clstk"}
PARTS = {"val": (0.0, 0.1), "train": (0.1, 1.0)}  # of the speakers of the training set
LINE = re.compile(r"(?:<s>)?\s*(.*?)\s*(?:</s>)?\s*\(([^()\s]+)\)")  # <s> GO </s> (an1-fash-b)


class AN4(RecognitionDataset):
    """A split.

    No validation set is published: `val` has a tenth of the speakers of the training set, and
    `train` the others.

    Args:
        folder: holds `an4/` or is itself this folder, with `etc/` and `wav/`.
        split: train, val or test.
        options: of `RecognitionDataset`.

    Raises:
        ValueError: there is no such split, a line can't be read, or the audio is raw.
        FileNotFoundError: a file is missing.
    """

    def __init__(self, folder: str, split: str, **options):
        check_choice("AN4: split", split, ("train", "val", "test"))
        place, name = Path(folder), "test" if split == "test" else "train"
        place = place / "an4" if (place / "an4").is_dir() else place
        manifest = cached_manifest(place / f"{name}.jsonl", lambda: read_split(place, name))
        if split != "test":
            manifest = part_by_hash(manifest, speaker_of, PARTS[split])
        super().__init__(manifest, **options)


def read_split(place: Path, split: str) -> Iterator[dict[str, Any]]:
    """Rows of a manifest for a split."""
    path = place / "etc" / f"an4_{split}.transcription"
    for number, line in read_lines(path, "transcript"):
        match = LINE.fullmatch(line)
        speaker = match[2].split("-")[1:2] if match else []  # an251-fash-b
        if not match or not speaker:
            raise ValueError(
                f"{path}, line {number}: {shown(line)}, wanted a text and (utterance-speaker-b)."
            )
        audio = place / AUDIO[split] / speaker[0] / f"{match[2]}.sph"
        if not audio.exists() and audio.with_suffix(".raw").exists():
            raise ValueError(
                f"{audio.with_suffix('.raw')}: audio without a header; use an4_sphere.tar.gz."
            )
        yield {
            "audio_filepath": audio.relative_to(place).as_posix(),
            "duration": full_duration(audio),
            "text": match[1].lower(),
            "speaker": speaker[0],
            "lang": "en",
        }
