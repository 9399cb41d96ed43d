"""A folder of recordings, with transcripts if there are any."""

from collections import Counter
from pathlib import Path

from tqdm.auto import tqdm

from src.datasets.manifest import Manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.tables import read_text
from src.utils.audio_files import ENDINGS, full_duration, is_recording


class CustomDir(RecognitionDataset):
    """The recordings `audio/*.{wav,flac,mp3,ogg}` of a folder.

    Their transcripts, if there are any, are in `transcriptions/*.txt` under the same names.

    Args:
        dir: the folder; the recordings may also be directly in it.
        options: of `RecognitionDataset`.

    Raises:
        FileNotFoundError: there is no such folder, or no recording in it.
        ValueError: two recordings have one name, or a recording or transcript can't be read.
    """

    def __init__(self, dir: str, **options):
        skip = options.get("on_error") == "skip"
        super().__init__(Manifest.from_rows(find_rows(Path(dir), skip), Path(dir)), **options)


def find_rows(folder: Path, skip: bool) -> list[dict]:
    """Rows of a manifest, one for each recording, in the order of their names."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder.")
    place = folder / "audio" if (folder / "audio").is_dir() else folder
    paths = sorted(path for path in place.iterdir() if is_recording(path))
    if not paths:
        raise FileNotFoundError(f"{place}: no {', '.join(ENDINGS)} in this folder.")
    for name, count in Counter(path.stem for path in paths).items():
        if count > 1:
            raise ValueError(f"{place}: {count} recordings are called '{name}'.")
    texts = folder / "transcriptions"
    return [make_row(path, texts, skip) for path in tqdm(paths, desc=folder.name)]


def duration_of(path: Path, skip: bool) -> float:
    """Seconds of a recording.

    Args:
        path: of the recording.
        skip: return 1 for a file that can't be read, which is then reported with its item.
    """
    try:
        return full_duration(path)
    except (ValueError, FileNotFoundError):
        if not skip:
            raise
        return 1.0


def make_row(path: Path, transcriptions: Path, skip: bool) -> dict:
    """The row of a recording, with its transcript if there is one."""
    row: dict = {"audio_filepath": str(path.absolute()), "duration": duration_of(path, skip)}
    text = transcriptions / f"{path.stem}.txt"
    if text.exists():
        row["text"] = read_text(text, "transcript").strip()
    return row
