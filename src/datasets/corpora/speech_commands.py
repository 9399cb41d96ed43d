"""Speech Commands v0.02 (Warden, arXiv 1804.03209): 35 English words in a second each."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from src.datasets.classification import ClassificationDataset
from src.datasets.corpora.archives import Archive, corpus_folder
from src.datasets.manifest import cached_manifest
from src.datasets.tables import read_lines
from src.utils.audio_files import full_duration
from src.utils.options import check_choice

# The checksum is torchaudio's; its publisher gives none.
ARCHIVE = Archive(
    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    "speech_commands_v0.02.tar.gz",
    "speech_commands_v0.02",
    "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}
SPEAKER_END = "_nohash_"  # in the name of a file, after the speaker


class SpeechCommands(ClassificationDataset):
    """A split, whose classes are words; training, validation and test have different speakers.

    Recordings of words without a class are dropped, and the background noise isn't used.

    Args:
        folder: holds `speech_commands_v0.02/` or is itself this folder, with a folder for each
            word; else it is downloaded there (2.3 GB).
        split: train, val or test: the recordings of no list, of validation_list.txt, or of
            testing_list.txt.
        labels: the words.
        download: whether to download it.
        options: of `ClassificationDataset`.

    Raises:
        ValueError: there is no such split, or the download fails.
        FileNotFoundError: a file is missing.
    """

    def __init__(
        self, folder: str, split: str, labels: Sequence[str], download: bool = True, **options
    ):
        check_choice("Speech Commands: split", split, ("train", *LISTS))
        place = corpus_folder(Path(folder), LISTS["test"], ARCHIVE, download)
        manifest = cached_manifest(place / f"{split}.jsonl", lambda: read_split(place, split))
        super().__init__(manifest, labels=labels, target="keyword", **options)


def read_split(place: Path, split: str) -> Iterator[dict[str, Any]]:
    """Rows of a manifest for a split."""
    listed = {key: [line.strip() for _, line in read_lines(place / LISTS[key])] for key in LISTS}
    paths = listed.get(split)
    if paths is None:
        held_out = {path for own in listed.values() for path in own}
        found = (path.relative_to(place).as_posix() for path in sorted(place.glob("[!_]*/*.wav")))
        paths = [path for path in found if path not in held_out]
    for path in paths:
        word, _, name = path.partition("/")
        yield {
            "audio_filepath": path,
            "duration": full_duration(place / path),
            "text": word,
            "speaker": name.partition(SPEAKER_END)[0],
            "lang": "en",
        }
