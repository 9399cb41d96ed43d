"""LibriCSS (Chen et al., arXiv 2001.11482): conversations replayed in a room, for inference."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.datasets.base_dataset import BaseDataset, Item
from src.datasets.manifest import Manifest, Row
from src.datasets.mixtures.made import listed_duration
from src.datasets.tables import read_lines, seconds
from src.utils.audio_files import open_audio
from src.utils.options import check_choice, check_whole
from src.utils.resampling import resample
from src.utils.segments import Segment
from src.utils.shard_sample import AudioPath

CONDITIONS = ("0L", "0S", "OV10", "OV20", "OV30", "OV40")
FILES = {"record": "record/raw_recording.wav", "clean": "clean/mix.wav"}
BLOCK = 1 << 18  # frames that are read at a time
CHANNELS = 7


class LibriCss(BaseDataset):
    """Items {id, path, seed, audio [T], file_rate, file_frames}, one for each session.

    There are no sources. What is said is in the items of `LibriCssConversations`.

    Args:
        dir: the folder for_release, or the one that holds it.
        conditions: of 0L, 0S, OV10, OV20, OV30 and OV40 (no overlap with long or short pauses, or
            percents of overlap); None: all.
        signal: record, what the microphones have recorded; or clean, the mixture that was played.
        channel: microphone of the array, from 0; clean mixtures have one channel.
        options: of `BaseDataset`.

    Raises:
        FileNotFoundError: a folder, a recording or a list of utterances is missing.
        ValueError: an option has a bad value, or a list of utterances a bad line.
    """

    has_targets = False

    def __init__(
        self,
        dir: str,
        conditions: list[str] | None = None,
        signal: str = "record",
        channel: int = 0,
        **options: Any,
    ):
        chosen = list(CONDITIONS) if conditions is None else list(conditions)
        for condition in chosen:
            check_choice("LibriCss: conditions", condition, CONDITIONS)
        check_choice("LibriCss: signal", signal, tuple(FILES))
        check_whole("LibriCss: channel", channel, 0, CHANNELS - 1)
        self.channel = channel if signal == "record" else 0
        folder = Path(dir).absolute()
        folder = folder / "for_release" if (folder / "for_release").is_dir() else folder
        rows = [row for name in chosen for row in find_rows(folder, name, FILES[signal])]
        super().__init__(Manifest.from_rows(rows, folder), **options)

    def item_id(self, row: Row, index: int) -> str:
        """Condition and session, e.g. OV10_session3."""
        return row.extra["session"]

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """A session as one microphone has recorded it."""
        samples, sample_rate = read_channel(row.audio_filepath, self.channel)
        return {
            "id": id,
            "path": str(row.audio_filepath),
            "seed": seed,
            "audio": resample(torch.from_numpy(samples), sample_rate, self.sample_rate),
            "file_rate": sample_rate,
            "file_frames": len(samples),
        }


class LibriCssConversations(LibriCss):
    """The sessions with `segments`, a list of `Segment`: what is said, by whom and when.

    For -cn=inference_conversation; options and errors are those of `LibriCss`.
    """

    has_targets = True

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """A session as one microphone has recorded it, and what is said in it."""
        said = [Segment(**one) for one in row.extra["utterances"]]
        return super().make_item(row, id, seed) | {"segments": said}


def find_rows(folder: Path, condition: str, file: str) -> list[dict[str, Any]]:
    """Rows of a manifest, one for each session of a condition, in their order.

    Raises:
        FileNotFoundError: there is no such folder, session or recording.
    """
    place = folder / condition
    if not place.is_dir():
        there = [name for name in CONDITIONS if (folder / name).is_dir()]
        known = f" (of conditions there are {', '.join(there)})" if there else ""
        raise FileNotFoundError(f"{place}: no such folder{known}.")
    sessions = sorted(path for path in place.glob("overlap_ratio_*_session*") if path.is_dir())
    if not sessions:
        raise FileNotFoundError(f"{place}: no session overlap_ratio_*_session* in this folder.")
    rows = []
    for path in sessions:
        session = next(part for part in path.name.split("_") if part.startswith("session"))
        rows.append(
            {
                "audio_filepath": str(path / file),
                "duration": listed_duration(str(path), path / file),
                "session": f"{condition}_{session}",
                "utterances": read_utterances(path / "transcription" / "meeting_info.txt"),
            }
        )
    return rows


def read_utterances(path: Path) -> list[dict[str, Any]]:
    """What is said in a session: start and end in seconds, speaker and text.

    Args:
        path: of meeting_info.txt, a header and lines of start, end, speaker, utterance and text
            with tabs between them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no such line.
    """
    utterances = []
    for count, line in list(read_lines(path, "list of utterances"))[1:]:
        cells = line.split("\t")
        if len(cells) != 5:
            raise ValueError(
                f"{path}, line {count}: {len(cells)} cells, wanted start, end, speaker, "
                "utterance and text."
            )
        start, end = (seconds(path, count, cell) for cell in cells[:2])
        utterances.append({"start": start, "end": end, "speaker": cells[2], "text": cells[4]})
    return utterances


def read_channel(path: AudioPath, channel: int) -> tuple[np.ndarray, int]:
    """One channel [T] of a recording, read in blocks, and its sample rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be read, has fewer channels, or samples that aren't finite.
    """
    with open_audio(path) as file:
        if channel >= file.channels:
            raise ValueError(f"{path}: {file.channels} channels; wanted channel {channel + 1}.")
        blocks = file.blocks(BLOCK, dtype="float32", always_2d=True)
        samples = np.concatenate([np.zeros(0, "float32"), *(block[:, channel] for block in blocks)])
        sample_rate = file.samplerate
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: has samples that are not finite numbers.")
    return samples, sample_rate
