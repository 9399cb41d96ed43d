"""Estimates of a recording of any length, held on disk until they are written."""

import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from src.utils.files import write_beside

ACTIVE_DB = -40.0  # relative to the mixture, above which an estimate counts as active
FLOOR_DBFS = -90.0  # about one step of 16 bits, below which an estimate never counts as active
PEAK = 0.9
BLOCK = 1 << 18  # frames written at a time


def activity(powers: list[float], mixture_power: float) -> dict[str, float]:
    """Level of each estimate in dBFS (RMS), and whether it is active: columns of a table.

    Args:
        powers: mean square of each estimate.
        mixture_power: mean square of the mixture.

    Returns:
        `energy_1`, `active_1` (0 or 1), `energy_2`, ...
    """
    columns: dict[str, float] = {}
    threshold = max(10 ** (ACTIVE_DB / 10) * mixture_power, 10 ** (FLOOR_DBFS / 10))
    for k, power in enumerate(powers, 1):
        columns[f"energy_{k}"] = round(10 * math.log10(power + 1e-12), 1)
        columns[f"active_{k}"] = int(power > threshold)
    return columns


class SeparatedRecording:
    """Estimates of one recording in a temporary file, which is deleted with this object.

    Args:
        sample_rate: of the recording, in Hz.
    """

    def __init__(self, sample_rate: int):
        self.sample_rate = sample_rate
        self.file = tempfile.TemporaryFile()  # noqa: SIM115, closed with this object
        self.mixture_frames, self.frames = 0, 0
        self.mixture_energy = 0.0
        self.energy, self.peak = np.zeros(0), np.zeros(0)

    def measure_mixture(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass on the blocks [t] of the recording and measure their length and energy."""
        for block in blocks:
            self.mixture_frames += len(block)
            self.mixture_energy += float(block.double().square().sum())
            yield block

    def write(self, estimates: Tensor) -> None:
        """Append a block of estimates, without what lies beyond the end of the recording.

        The mixture must have been read up to the block's end.

        Args:
            estimates: [S, t].
        """
        if not len(self.energy):
            self.energy, self.peak = np.zeros(len(estimates)), np.zeros(len(estimates))
        estimates = estimates[:, : self.mixture_frames - self.frames]
        if not estimates.shape[1]:
            return
        self.frames += estimates.shape[1]
        self.energy += estimates.double().square().sum(1).numpy()
        self.peak = np.maximum(self.peak, estimates.abs().amax(1).numpy())
        self.file.write(estimates.T.contiguous().numpy().astype(np.float32).tobytes())

    def seconds(self) -> float:
        """Duration of the recording."""
        return self.mixture_frames / self.sample_rate

    def activity(self) -> dict[str, float]:
        """Level of each estimate in dBFS (RMS), and whether it is active: columns of a table."""
        size = max(self.mixture_frames, 1)
        return activity((self.energy / size).tolist(), self.mixture_energy / size)

    def save(self, directory: Path, name: str, level: str) -> None:
        """Write `s1/<name>.wav`, `s2/<name>.wav`, ... with 16 bits.

        Args:
            directory: an existing folder.
            name: of the files.
            level: `peak` scales each estimate to a peak of 0.9; any other level keeps them, but
                scales all of them down by the same factor where a peak is above 1.
        """
        common = 1 / max(1.0, *self.peak.tolist())
        for k, peak in enumerate(self.peak.tolist()):
            gain = common
            if level == "peak":
                gain = PEAK / peak if peak else 0.0
            folder = directory / f"s{k + 1}"
            folder.mkdir(exist_ok=True)
            with (
                write_beside(folder / f"{name}.wav") as beside,
                soundfile.SoundFile(
                    beside, "w", self.sample_rate, 1, subtype="PCM_16", format="WAV"
                ) as out,
            ):
                for block in self.blocks():
                    out.write(gain * block[:, k])

    def beginning(self, seconds: float) -> Tensor:
        """The first seconds of the estimates, [S, t]."""
        wanted, parts = round(seconds * self.sample_rate), []
        for block in self.blocks():
            parts.append(torch.from_numpy(block.T[:, :wanted].copy()))
            wanted -= parts[-1].shape[1]
            if not wanted:
                break
        return torch.cat(parts, 1) if parts else torch.zeros(len(self.energy), 0)

    def blocks(self) -> Iterator[np.ndarray]:
        """All estimates from the start, in blocks [t, S]."""
        self.file.seek(0)
        size = len(self.energy)
        while data := self.file.read(4 * size * BLOCK):
            yield np.frombuffer(data, dtype=np.float32).reshape(-1, size)
