"""Estimates of a recording of any length, held on disk until they are written."""

import math
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from src.utils.files import write_beside

FLOOR_DBFS = -90.0  # about one step of 16 bits, below which an estimate never counts as active
PEAK = 0.9
BLOCK = 1 << 18  # frames written at a time


def activity(powers: list[float], mixture_power: float, active_db: float) -> dict[str, float]:
    """Level of each estimate in dBFS (RMS), and whether it is active: columns of a table.

    Args:
        powers: mean square of each estimate.
        mixture_power: mean square of the mixture.
        active_db: level relative to the mixture above which an estimate counts as active.

    Returns:
        `energy_1`, `active_1` (0 or 1), `energy_2`, ..., and `num_active`, how many are.
    """
    columns: dict[str, float] = {}
    threshold = max(10 ** (active_db / 10) * mixture_power, 10 ** (FLOOR_DBFS / 10))
    for k, power in enumerate(powers, 1):
        columns[f"energy_{k}"] = round(10 * math.log10(power + 1e-12), 1)
        columns[f"active_{k}"] = int(power > threshold)
    return columns | {"num_active": sum(power > threshold for power in powers)}


def products_of(mixture: Tensor, estimates: Tensor) -> Tensor:
    """Scalar products of a mixture and its estimates with each other, float64.

    Args:
        mixture: [..., T].
        estimates: [..., S, T].

    Returns:
        [..., 1 + S, 1 + S], of which the first row and column are the mixture's.
    """
    signals = torch.cat([mixture.unsqueeze(-2), estimates], -2).double()
    return signals @ signals.transpose(-1, -2)


class SeparatedRecording:
    """Estimates of one recording in a temporary file, which is deleted with this object.

    Args:
        sample_rate: of the recording, in Hz.

    Attributes:
        products: `products_of` the whole mixture and its estimates, [1 + S, 1 + S].
    """

    def __init__(self, sample_rate: int):
        self.sample_rate = sample_rate
        self.file = tempfile.TemporaryFile()  # noqa: SIM115, closed with this object
        self.mixture_frames, self.frames = 0, 0
        self.mixture_energy = 0.0
        self.waiting = torch.zeros(0)  # of the mixture, for its estimates
        self.products = torch.zeros(0, 0, dtype=torch.float64)
        self.peak = np.zeros(0)

    def measure_mixture(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Pass on the blocks [t] of the recording and measure their length and energy."""
        for block in blocks:
            self.mixture_frames += len(block)
            self.mixture_energy += float(block.double().square().sum())
            self.waiting = torch.cat([self.waiting, block])
            yield block

    def write(self, estimates: Tensor) -> None:
        """Append a block of estimates, without what lies beyond the end of the recording.

        The mixture must have been read up to the block's end.

        Args:
            estimates: [S, t].
        """
        if not len(self.peak):
            self.products = torch.zeros(2 * [1 + len(estimates)], dtype=torch.float64)
            self.peak = np.zeros(len(estimates))
        estimates = estimates[:, : self.mixture_frames - self.frames]
        size = estimates.shape[1]
        if not size:
            return
        self.frames += size
        self.products += products_of(self.waiting[:size], estimates)
        self.waiting = self.waiting[size:]
        self.peak = np.maximum(self.peak, estimates.abs().amax(1).numpy())
        self.file.write(estimates.T.contiguous().numpy().astype(np.float32).tobytes())

    def seconds(self) -> float:
        """Duration of the recording."""
        return self.mixture_frames / self.sample_rate

    def activity(self, active_db: float) -> dict[str, float]:
        """Level of each estimate in dBFS (RMS), and whether it is active: columns of a table.

        Args:
            active_db: level relative to the mixture above which an estimate counts as active.
        """
        size = max(self.mixture_frames, 1)
        powers = self.products.diagonal()[1:] / size
        return activity(powers.tolist(), self.mixture_energy / size, active_db)

    def save(
        self, directory: Path, name: str, level: str, chosen: Collection[int] | None = None
    ) -> None:
        """Write `s1/<name>.wav`, `s2/<name>.wav`, ... with 16 bits.

        Args:
            directory: an existing folder.
            name: of the files.
            chosen: numbers of the estimates to be written, from 1; None: all.
            level: `peak` scales each estimate to a peak of 0.9; any other level keeps them, but
                scales all of them down by the same factor where a peak is above 1.
        """
        common = 1 / max([1.0, *self.peak.tolist()])
        for k, peak in enumerate(self.peak.tolist()):
            if chosen is not None and k + 1 not in chosen:
                continue
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
        return torch.cat(parts, 1) if parts else torch.zeros(len(self.peak), 0)

    def blocks(self, frames: int = BLOCK) -> Iterator[np.ndarray]:
        """All estimates from the start, in blocks [t, S] of some frames, the last of fewer."""
        self.file.seek(0)
        size = len(self.peak)
        while data := self.file.read(4 * size * frames):
            yield np.frombuffer(data, dtype=np.float32).reshape(-1, size)
