"""VoxForge (voxforge.org): recordings of volunteers, one archive a session; English and Russian.

No checksums are published, so the archives are read from a folder: `wget -r -np -nd -A tgz URL`,
where the URL is www.repository.voxforge1.org/downloads/LANGUAGE/Trunk/Audio/Main/16kHz_16bit/, with
SpeechCorpus (English) or Russian as LANGUAGE.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from src.datasets.corpora.archives import unpack_as
from src.datasets.manifest import cached_manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.splitting import part_by_hash, speaker_of
from src.datasets.tables import read_lines
from src.utils.audio_files import full_duration
from src.utils.options import check_choice, shown

logger = logging.getLogger(__name__)

INDEX = "voxforge_{}.jsonl"  # of a language
PARTS = {"val": (0.0, 0.05), "test": (0.05, 0.1), "train": (0.1, 1.0)}  # of the speakers
ENDINGS = ("wav", "flac")  # also names of the folders


class VoxForge(RecognitionDataset):
    """A part of the sessions in one language, chosen by speaker; the corpus has no splits.

    Archives that aren't unpacked are unpacked. Prompts without a readable recording, and sessions
    without readable prompts, are left out, with a warning.

    Args:
        folder: holds the sessions: `*.tgz`, or `*/etc/PROMPTS` and `*/wav/*.wav` (or flac).
        split: train, val or test: 90, 5 and 5 % of the speakers.
        language: en or ru.
        options: of `RecognitionDataset`.

    Raises:
        ValueError: there is no such split or language, an archive is damaged, or nothing can be
            read.
        FileNotFoundError: there are no sessions.
    """

    def __init__(self, folder: str, split: str, language: str = "en", **options):
        check_choice("VoxForge: split", split, tuple(PARTS))
        check_choice("VoxForge: language", language, ("en", "ru"))
        place = Path(folder)
        if unpack_sessions(place):
            for index in place.glob(INDEX.format("*")):
                index.unlink()
        index = place / INDEX.format(language)
        manifest = cached_manifest(index, lambda: read_sessions(place, language))
        super().__init__(part_by_hash(manifest, speaker_of, PARTS[split]), **options)


def unpack_sessions(folder: Path) -> int:
    """Unpack the archives beside which there is no folder; returns how many.

    Raises:
        ValueError: an archive is damaged; names it.
    """
    archives = [path for path in folder.glob("*.tgz") if not path.with_suffix("").exists()]
    for path in tqdm(sorted(archives), desc="unpacking", unit="session", disable=not archives):
        unpack_as(path, path.with_suffix(""), progress=False)
    return len(archives)


def read_sessions(folder: Path, language: str) -> Iterator[dict[str, Any]]:
    """Rows of a manifest for all sessions.

    Raises:
        FileNotFoundError: there are none.
        ValueError: nothing is readable.
    """
    sessions = sorted(path.parents[1] for path in folder.glob("*/etc/PROMPTS"))
    if not sessions:
        raise FileNotFoundError(f"{folder}: no sessions (*.tgz or */etc/PROMPTS) in it.")
    problems: list[str] = []
    count = 0
    for session in tqdm(sessions, desc=f"reading {folder.name}", unit="session"):
        for row in read_session(session, language, problems):
            count += 1
            yield row
    if not count:
        raise ValueError(f"{folder}: no session is readable: {problems[0]}")
    if problems:
        logger.warning("%s: %d prompts left out: %s ...", folder, len(problems), problems[0])


def read_session(session: Path, language: str, problems: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of a manifest for a session; what can't be read is told in `problems`."""
    speaker = session.name.partition("-")[0]
    if speaker.lower().startswith("anonymous"):  # somebody else each time
        speaker = session.name
    try:
        prompts = [line for _, line in read_lines(session / "etc" / "PROMPTS", "list of prompts")]
    except ValueError as error:
        problems.append(str(error))
        return
    for prompt in prompts:
        name, *text = prompt.split(maxsplit=1)  # 1028-20100710-hne/mfc/ar-01 SHE DID NOT ANSWER
        if not text:
            problems.append(f"{session / 'etc' / 'PROMPTS'}: {shown(prompt)} has no text.")
            continue
        name = name.rpartition("/")[2]
        places = [session / ending / f"{name}.{ending}" for ending in ENDINGS]
        audio = next((path for path in places if path.exists()), places[0])
        try:
            duration = full_duration(audio)
        except (ValueError, FileNotFoundError) as error:
            problems.append(str(error))
            continue
        # In Russian, + marks the stress.
        words = text[0].replace("+", "") if language == "ru" else text[0]
        yield {
            "audio_filepath": audio.relative_to(session.parent).as_posix(),
            "duration": duration,
            "text": words.strip().lower(),
            "speaker": speaker,
            "lang": language,
        }
