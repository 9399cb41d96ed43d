"""Multilingual LibriSpeech (Pratap et al., 2020): audiobooks in eight languages, openslr.org/94."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from src.datasets.corpora.archives import Archive, corpus_folder
from src.datasets.manifest import cached_manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.tables import read_lines, seconds
from src.utils.audio_files import check_file
from src.utils.options import check_choice, shown

URL = "https://dl.fbaipublicfiles.com/mls"
LANGUAGES = {
    "dutch": "nl",
    "english": "en",
    "french": "fr",
    "german": "de",
    "italian": "it",
    "polish": "pl",
    "portuguese": "pt",
    "spanish": "es",
}
SPLITS = ("train", "dev", "test")


class MultilingualLibriSpeech(RecognitionDataset):
    """A split of one language, whose archive is downloaded unless it is there.

    Args:
        language: polish, german, ...
        split: train, dev or test.
        folder: holds `mls_<language>[_opus]` or will; or is itself this folder.
        opus: compressed audio, a quarter of the size; otherwise FLAC.
        download: whether to fetch an archive that isn't there, with all splits of the language.
        options: of `RecognitionDataset`.

    Raises:
        ValueError: there is no such language or split, the download fails, or a line can't be read.
        FileNotFoundError: a file is missing, or the corpus isn't there and `download` is false.
    """

    def __init__(
        self,
        language: str,
        split: str,
        folder: str = "data/mls",
        opus: bool = True,
        download: bool = True,
        **options,
    ):
        check_choice("MLS: language", language, tuple(LANGUAGES))
        check_choice("MLS: split", split, SPLITS)
        name = f"mls_{language}_opus" if opus else f"mls_{language}"
        file = f"{name}.tar.gz"
        archive = Archive(f"{URL}/{file}", file, name, f"{URL}/md5sum.txt", "md5")
        marker = f"{split}/transcripts.txt"
        place = corpus_folder(Path(folder), marker, archive, download) / split
        ending, code = "opus" if opus else "flac", LANGUAGES[language]
        manifest = cached_manifest(
            place / "manifest.jsonl",
            lambda: read_split(place, ending, code),
            source=place / "transcripts.txt",
        )
        super().__init__(manifest, **options)


def read_split(place: Path, ending: str, language: str) -> Iterator[dict[str, Any]]:
    """Rows of a manifest for a split.

    Args:
        place: holds transcripts.txt, segments.txt and audio/.
        ending: of the audio files.
        language: ISO 639-1 code.
    """
    lengths = read_lengths(place / "segments.txt")
    path = place / "transcripts.txt"
    for number, line in tqdm(read_lines(path, "transcript"), desc=f"reading {place.name}"):
        name, _, text = line.partition("\t")
        parts = name.split("_")
        if len(parts) != 3 or not text or name not in lengths:
            reason = f"wanted an utterance of {place / 'segments.txt'}, a tab and a text"
            raise ValueError(f"{path}, line {number}: {shown(line)}, {reason}.")
        audio = f"audio/{parts[0]}/{parts[1]}/{name}.{ending}"
        check_file(place / audio, "audio file")
        yield {
            "audio_filepath": audio,
            "duration": lengths[name],
            "text": text,
            "speaker": parts[0],
            "lang": language,
        }


def read_lengths(path: Path) -> dict[str, float]:
    """Seconds of each utterance: their start and end in the audiobook are in segments.txt."""
    lengths = {}
    for number, line in read_lines(path, "list of segments"):
        name, *rest = line.split("\t")
        if len(rest) != 3:
            raise ValueError(f"{path}, line {number}: {shown(line)}, wanted four columns.")
        start, end = (seconds(path, number, value) for value in rest[1:])
        lengths[name] = round(end - start, 3)
    return lengths
