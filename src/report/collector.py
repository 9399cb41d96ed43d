"""Collects what the page of an evaluation shows of each utterance while it is evaluated."""

import hashlib
import io
import logging
import re
import shutil
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.image import imsave
from torch import Tensor

from src.utils.audio import Recording, write_audio
from src.utils.files import write_beside
from src.utils.plots import power_spectrogram
from src.utils.snr import estimate_snr

logger = logging.getLogger(__name__)

Row = dict[str, Any]
Rank = tuple[Any, ...]

WORST = 50  # utterances with audio
LONGEST = 600  # seconds of a signal that are written
BINS, FRAMES = 64, 400  # size of a spectrogram at most
RANGE = 70.0  # dB shown of a spectrogram
UNSAFE = re.compile(r"[^A-Za-z0-9.-]")


class Collector:
    """Details of every utterance; audio and pictures of some, written as they are evaluated.

    A failure is logged, and nothing more is collected: the evaluation goes on.

    Args:
        task: says what there is to see and hear.
        sample_rate: of its signals, in Hz.
        folder: for audio and pictures; exists. None: nothing is collected.
        audio: which utterances get them: `none`, `worst` (50) or `all`.
        rank: from a row of the table to its place; the lowest is the worst.

    Attributes:
        details: id -> `seconds`, `speaker`, `snr`, what the task adds, and the names of the files:
            `audio`, a list of {title, file, spectrogram}, and the task's `picture`.
    """

    def __init__(
        self,
        task: Any,
        sample_rate: int,
        folder: Path | None,
        audio: str,
        rank: Callable[[Row], Rank],
    ):
        self.task, self.sample_rate, self.folder = task, sample_rate, folder
        self.audio, self.rank = audio, rank
        self.details: dict[str, Row] = {}
        self.kept: list[tuple[Rank, str]] = []  # utterances with audio, the worst first
        self.failed = folder is None

    def add(self, batch: dict[str, Any]) -> None:
        """Collect from a batch after `postprocess`, with its `rows`."""
        if self.failed or self.folder is None:
            return
        self.failed = True
        with tolerated("what the report shows of an utterance could not be collected"):
            own = self.task.details(**batch)
            for item, (row, extra) in enumerate(zip(batch["rows"], own, strict=True)):
                self.details[row["id"]] = facts_of(batch, item, self.sample_rate) | extra
                self.keep(self.folder, row, item, batch)
            self.failed = False

    def discard(self) -> None:
        """Remove what was written, since the evaluation has failed."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self, folder: Path, row: Row, item: int, batch: dict[str, Any]) -> None:
        """Write audio and pictures of an utterance if it is among those that get them."""
        rank, name = self.rank(row), row["id"]
        full = self.audio == "worst" and len(self.kept) >= WORST
        if self.audio == "none" or (full and rank >= self.kept[-1][0]):
            return
        self.details[name] |= self.write(folder / file_stem(name), item, batch)
        insort(self.kept, (rank, name))
        if full:
            remove_files(folder, self.details[self.kept.pop()[1]])

    def write(self, path: Path, item: int, batch: dict[str, Any]) -> Row:
        """Write audio and pictures of an utterance; returns the names of the files.

        Args:
            path: how those of its files begin.
            item: index in the batch.
            batch: after `postprocess`.
        """
        files: Row = {"audio": []}
        image = self.task.illustrate(item, **batch)
        if image is not None:
            files["picture"] = write_picture(path.with_name(f"{path.name}.png"), image)
        for number, (title, signal) in enumerate(self.task.signals(item, **batch).items()):
            own = path.with_name(f"{path.name}_{number}.flac")
            player = write_player(own, title, signal, self.sample_rate, pictured=image is None)
            files["audio"].append(player)
        return {key: value for key, value in files.items() if value}


def write_player(
    path: Path, title: str, signal: Tensor | Recording, sample_rate: int, pictured: bool = True
) -> dict[str, str]:
    """Write the beginning of a signal; returns title and names of the files.

    Args:
        path: of the FLAC file; the spectrogram's is the same with .png.
        title: of the player.
        signal: [T].
        sample_rate: in Hz.
        pictured: whether to write a spectrogram.
    """
    samples = beginning(signal, LONGEST * sample_rate)
    write_audio(path, samples, sample_rate)
    player = {"title": title, "file": path.name}
    if pictured:
        player["spectrogram"] = write_picture(path.with_suffix(".png"), spectrogram(samples))
    return player


@contextmanager
def tolerated(what: str) -> Iterator[None]:
    """Log an error in the block instead of raising it; a report is not worth an evaluation."""
    try:
        yield
    except Exception as error:
        logger.warning("%s: %s", what, error or type(error).__name__, exc_info=True)


def facts_of(batch: dict[str, Any], item: int, sample_rate: int) -> Row:
    """Duration, speaker and estimated SNR in dB of an utterance, as far as the batch has them.

    Args:
        batch: with `audio` [B, T] and `audio_length`, or a list of recordings; and `speaker`.
        item: index of the utterance.
        sample_rate: of the audio, in Hz.
    """
    facts: Row = {}
    if "audio" in batch:
        sizes = batch.get("audio_length")
        audio = batch["audio"][item]
        size = len(audio) if sizes is None else int(sizes[item])
        facts["seconds"] = round(size / sample_rate, 3)
        snr = estimate_snr(audio[:size], sample_rate) if isinstance(audio, Tensor) else None
        facts |= {} if snr is None else {"snr": round(snr, 1)}
    if "speaker" in batch:
        facts["speaker"] = str(batch["speaker"][item])
    return facts


def file_stem(name: str) -> str:
    """Name of an utterance's files, which holds no character that means anything in a URL."""
    digest = hashlib.sha1(name.encode("utf-8", "surrogatepass"), usedforsecurity=False)
    return f"{UNSAFE.sub('_', name)[:60]}-{digest.hexdigest()[:8]}"


def beginning(signal: Tensor | Recording, most: int) -> Tensor:
    """At most so many samples of a signal, within [-1, 1]."""
    samples = signal[:most]
    samples = torch.as_tensor(samples).float().cpu()
    return samples / samples.abs().max().clamp(min=1.0) if samples.numel() else samples


def spectrogram(signal: Tensor) -> np.ndarray:
    """Power spectrogram in dB as uint8 [64, T'], low frequencies below; T' is at most 400."""
    levels = power_spectrogram(signal)
    size = (BINS, min(FRAMES, levels.shape[1]))
    levels = torch.nn.functional.adaptive_avg_pool2d(levels[None], size)[0]
    scaled = 1 + (levels - levels.max()) / RANGE
    return (255 * scaled.clamp(0, 1)).byte().flip(0).numpy()


def write_picture(path: Path, image: np.ndarray) -> str:
    """Write a picture, [height, width] or [height, width, 3], as PNG; returns the file's name."""
    data = io.BytesIO()
    imsave(data, image, format="png", cmap="magma", vmin=0, vmax=255)  # colours stay as they are
    with write_beside(path) as beside:
        beside.write_bytes(data.getvalue())
    return path.name


def remove_files(folder: Path, details: Row) -> None:
    """Remove the audio and pictures of an utterance, and their names from its details."""
    for name in files_of(details):
        (folder / name).unlink(missing_ok=True)
    details.pop("audio", None)
    details.pop("picture", None)


def files_of(details: Row) -> list[str]:
    """The names of the audio and pictures of an utterance."""
    players = details.get("audio", [])
    names = [player.get(key) for player in players for key in ("file", "spectrogram")]
    return [name for name in (*names, details.get("picture")) if name is not None]


def leave_worst(folder: Path, rows: list[Row]) -> None:
    """Remove audio and pictures of all but the worst of those that have them.

    Args:
        folder: of the files.
        rows: worst first, with their details; several processes have each kept their worst.
    """
    with_audio = [row for row in rows if "audio" in row]
    for row in with_audio[WORST:]:
        remove_files(folder, row)
