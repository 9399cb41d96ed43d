"""LibriSpeech (Panayotov et al., 2015): read English, 1,000 hours, from openslr.org."""

from pathlib import Path

from tqdm.auto import tqdm

from src.datasets.corpora.archives import Archive, fetch_archive
from src.datasets.manifest import Manifest, cached_manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.tables import read_lines
from src.utils.audio_files import full_duration
from src.utils.options import check_choice, shown

URL = "https://www.openslr.org/resources/12/{split}.tar.gz"
SHA256 = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}


class LibriSpeech(RecognitionDataset):
    """A split of LibriSpeech, which is downloaded unless it is there.

    Args:
        split: e.g. train-clean-100.
        folder: holds `LibriSpeech/<split>` or will; or is itself the LibriSpeech folder.
        download: whether to fetch a split that isn't there.
        options: of `RecognitionDataset`.

    Raises:
        ValueError: there is no such split, its download fails, or a transcript can't be read.
        FileNotFoundError: the split isn't there, and `download` is false.
    """

    def __init__(
        self, split: str, folder: str = "data/librispeech", download: bool = True, **options
    ):
        check_choice("LibriSpeech: split", split, tuple(SHA256))
        place = find_split(Path(folder), split)
        if place is None:
            if not download:
                raise FileNotFoundError(f"{folder}: holds no LibriSpeech split '{split}'.")
            place = fetch_split(Path(folder), split)
        super().__init__(index_split(place), **options)


def find_split(folder: Path, split: str) -> Path | None:
    """The folder of a split, or None."""
    for place in (folder / "LibriSpeech" / split, folder / split):
        if place.is_dir():
            return place
    return None


def fetch_split(folder: Path, split: str) -> Path:
    """Download and unpack a split; its folder exists only once it is complete."""
    name, inside = f"{split}.tar.gz", f"LibriSpeech/{split}"
    archive = Archive(URL.format(split=split), name, inside, SHA256[split], inside=inside)
    return fetch_archive(archive, folder)


def index_split(place: Path) -> Manifest:
    """The manifest of a split, kept beside its speakers' folders."""
    return cached_manifest(place / "manifest.jsonl", lambda: read_split(place))


def read_split(place: Path) -> list[dict]:
    """Rows of a manifest for a split.

    Raises:
        FileNotFoundError: there are no transcripts, or the audio of one is missing.
    """
    transcripts = sorted(place.glob("*/*/*.trans.txt"))
    if not transcripts:
        raise FileNotFoundError(f"{place}: no transcripts (*/*/*.trans.txt) in it.")
    bar = tqdm(transcripts, desc=f"reading {place.name}", unit="chapter")
    return [row for file in bar for row in read_chapter(file, place)]


def read_chapter(transcript: Path, place: Path) -> list[dict]:
    """Rows of a manifest for one chapter.

    Raises:
        ValueError: a line has no utterance and text; names it.
    """
    rows = []
    for number, line in read_lines(transcript, "transcript"):
        name, _, text = line.partition(" ")
        if not name or not text:
            raise ValueError(
                f"{transcript}, line {number}: {shown(line)}, wanted an utterance and its text."
            )
        audio = transcript.parent / f"{name}.flac"
        rows.append(
            {
                "audio_filepath": str(audio.relative_to(place)),
                "duration": full_duration(audio),
                "text": text.lower(),
                "speaker": name.split("-")[0],
                "lang": "en",
            }
        )
    return rows
