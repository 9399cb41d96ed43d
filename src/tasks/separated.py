"""What came out of a recording of any length, kept on disk until it is written."""

import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from torch import Tensor

from src.utils.files import write_beside

ACTIVE = -40.0  # dB below the mixture, from which on there is something in a stream
FLOOR = -90.0  # dBFS, a step of 16 bits: there is nothing in what is below
PEAK = 0.9
ROWS = 1 << 18  # samples written at a time


def activity(energies: list[float], mixture: float) -> dict[str, float]:
    """Level of each stream in dBFS (RMS), and whether there is something in it."""
    found: dict[str, float] = {}
    floor = 10 ** (FLOOR / 10)
    for k, energy in enumerate(energies):
        found[f"energy_{k + 1}"] = round(10 * math.log10(energy + 1e-12), 1)
        found[f"active_{k + 1}"] = int(energy > max(10 ** (ACTIVE / 10) * mixture, floor))
    return found


class Separated:
    """Streams of one recording, in a temporary file.

    Args:
        rate: of the recording, in Hz.
    """

    def __init__(self, rate: int):
        self.rate = rate
        self.file = tempfile.TemporaryFile()  # noqa: SIM115, closed when this object goes
        self.mixture_frames, self.frames = 0, 0
        self.mixture_energy = 0.0
        self.energy, self.peak = np.zeros(0), np.zeros(0)

    def note_mixture(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The blocks of the recording as they are, while their length and energy are noted."""
        for block in blocks:
            self.mixture_frames += len(block)
            self.mixture_energy += float(block.double().square().sum())
            yield block

    def write(self, streams: Tensor) -> None:
        """Add a block [S, t]; what is longer than the recording is cut off.

        The recording's end is known by then: a block comes out after all that it depends on.
        """
        if not len(self.energy):
            self.energy, self.peak = np.zeros(len(streams)), np.zeros(len(streams))
        streams = streams[:, : self.mixture_frames - self.frames]
        if not streams.shape[1]:
            return
        self.frames += streams.shape[1]
        self.energy += streams.double().square().sum(1).numpy()
        self.peak = np.maximum(self.peak, streams.abs().amax(1).numpy())
        self.file.write(streams.T.contiguous().numpy().astype(np.float32).tobytes())

    def activity(self) -> dict[str, float]:
        """See the function."""
        size = max(self.mixture_frames, 1)
        return activity((self.energy / size).tolist(), self.mixture_energy / size)

    def save(self, directory: Path, name: str, level: str) -> None:
        """Write `s1/<name>.wav`, ..., 16 bits; `level` peak brings each to a peak of 0.9."""
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
                    beside, "w", self.rate, 1, subtype="PCM_16", format="WAV"
                ) as out,
            ):
                for block in self.blocks():
                    out.write(gain * block[:, k])

    def blocks(self) -> Iterator[np.ndarray]:
        """All that was written, [t, S] at a time."""
        self.file.seek(0)
        width = len(self.energy)
        while data := self.file.read(4 * width * ROWS):
            yield np.frombuffer(data, dtype=np.float32).reshape(-1, width)
