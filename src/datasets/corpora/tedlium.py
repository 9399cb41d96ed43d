"""TED-LIUM release 3 (Hernandez et al., 2018): English talks, 452 hours, openslr.org/51."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from src.datasets.corpora.archives import Archive, corpus_folder
from src.datasets.manifest import cached_manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.tables import read_lines, seconds
from src.utils.audio_files import full_duration
from src.utils.options import check_choice, shown

ARCHIVE = Archive(
    "https://www.openslr.org/resources/51/TEDLIUM_release-3.tgz",
    "TEDLIUM_release-3.tgz",
    "TEDLIUM_release-3",
    "ad1e454d14d1ad550bc2564c462d87c7a7ec83d4dc2b9210f22ab4973b9eccdb",
)
SPLITS = ("train", "dev", "test")

NOT_SCORED = "ignore_time_segment_in_scoring"
MARK = re.compile(r"<[^<>\s]*>|\{[^{}\s]*\}|\[[^\[\]\s]*\]|\([0-9]+\)")  # <unk>, {NOISE}, (2)
ENDING = re.compile(r"(?<=\w) '(?=(?:s|t|d|m|re|ve|ll)\b)")  # "it 's" is one word


class TedLium(RecognitionDataset):
    """A split of the legacy distribution, whose archive (54 GB) is downloaded unless it is there.

    Utterances are parts of the talks. Those that are not scored, and those without words, are left
    out; `<unk>`, which stands for a word that was not transcribed, is removed from the text.

    Args:
        split: train, dev or test.
        folder: holds `TEDLIUM_release-3` or will; or is itself this folder.
        download: whether to fetch the archive if it isn't there.
        options: of `RecognitionDataset`.

    Raises:
        ValueError: there is no such split, the download fails, or a transcript can't be read.
        FileNotFoundError: a talk is missing, or the corpus isn't there and `download` is false.
    """

    def __init__(self, split: str, folder: str = "data/tedlium", download: bool = True, **options):
        check_choice("TED-LIUM: split", split, SPLITS)
        place = corpus_folder(Path(folder), "legacy", ARCHIVE, download)
        manifest = cached_manifest(place / f"{split}.jsonl", lambda: read_split(place, split))
        super().__init__(manifest, **options)


def read_split(place: Path, split: str) -> Iterator[dict[str, Any]]:
    """Rows of a manifest for a split.

    Raises:
        FileNotFoundError: it has no transcripts.
    """
    # In legacy/train are links to the files in data, which are left out when it is unpacked here.
    folders = [place / "legacy" / split] + ([place / "data"] if split == "train" else [])
    talks = next((found for one in folders if (found := sorted(one.glob("stm/*.stm")))), [])
    if not talks:
        raise FileNotFoundError(f"{folders[-1] / 'stm'}: no transcripts (*.stm) in it.")
    for transcript in tqdm(talks, desc=f"reading {split}", unit="talk"):
        yield from read_talk(transcript, place)


def read_talk(transcript: Path, place: Path) -> Iterator[dict[str, Any]]:
    """Rows of a manifest for one talk, whose audio is in `sph` beside the transcript's folder.

    Raises:
        ValueError: a line isn't one of an STM file; names it.
    """
    audio = transcript.parents[1] / "sph" / f"{transcript.stem}.sph"
    whole = full_duration(audio)
    for number, line in read_lines(transcript, "transcript"):
        if line.startswith(";;"):
            continue
        words = line.split(maxsplit=6)  # talk, channel, speaker, start, end, label, text
        if len(words) < 6:
            raise ValueError(f"{transcript}, line {number}: {shown(line)}, wanted six columns.")
        start, end = (seconds(transcript, number, value) for value in words[3:5])
        text = clean(words[6]) if len(words) == 7 else ""
        length = round(min(end, whole) - start, 6)
        if text and length > 0:
            yield {
                "audio_filepath": audio.relative_to(place).as_posix(),
                "offset": start,
                "duration": length,
                "text": text,
                "speaker": words[2],
                "lang": "en",
            }


def clean(text: str) -> str:
    """The words of an utterance; "" if it isn't scored."""
    if NOT_SCORED in text:
        return ""
    return ENDING.sub("'", " ".join(MARK.sub(" ", text).split()))
