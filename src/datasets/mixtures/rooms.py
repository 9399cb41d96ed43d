"""Rooms in which the speakers of a mixture speak."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import fftconvolve
from torch import Tensor

from src.transforms.wave.recordings import Recordings, recordings_path
from src.utils.options import check_number, check_whole
from src.utils.random import uniform

DIRECT = 0.0025  # seconds around its peak that are the direct sound
SOUND = 343.0  # metres a second
MARGIN = 0.5  # metres between walls and whoever speaks or listens
TOO_NEAR = 0.3  # metres between speaker and microphone
ABSORBED = 0.99  # largest absorption of the walls
INSTALL = "pip install pyroomacoustics"


class RecordedRooms:
    """Recorded room impulse responses, of which those in the same folder belong to one room.

    Args:
        source: JSON lines with `audio_filepath`, or a folder of responses, those in subfolders too.
        sample_rate: in Hz.

    Raises:
        FileNotFoundError: the manifest or a recording does not exist.
        ValueError: there are no recordings, or one is not readable.
    """

    def __init__(self, source: str, sample_rate: int = 16000):
        path = recordings_path(type(self).__name__, source)
        if path is None:
            raise ValueError("RecordedRooms, source: null; the path of a manifest or a folder.")
        self.recordings, self.sample_rate = Recordings(path, sample_rate), sample_rate
        rooms: dict[Path, list[int]] = defaultdict(list)
        for index, recording in enumerate(self.recordings.paths):
            rooms[recording.parent].append(index)
        self.rooms = [rooms[folder] for folder in sorted(rooms)]

    def check_longest(self, segment: float) -> None:
        """Check that no response is longer than a segment, in seconds.

        Raises:
            ValueError: one is; names it.
        """
        for path, length in zip(self.recordings.paths, self.recordings.lengths, strict=True):
            if length > segment * self.sample_rate:
                raise ValueError(
                    f"{path}: a room response of {length / self.sample_rate:.2f} s, longer than a "
                    f"segment of {segment:g} s."
                )

    def draw(self, draw: torch.Generator, count: int) -> list[Tensor]:
        """Responses [R] of `count` places in one room, different ones if it has as many."""
        room = self.rooms[int(uniform(draw, 0, len(self.rooms)))]
        chosen: list[int] = []
        while len(chosen) < count:
            chosen += [room[k] for k in torch.randperm(len(room), generator=draw).tolist()]
        return [self.recordings.whole(index) for index in chosen[:count]]


class SimulatedRooms:
    """Rooms with parallel walls by the image-source method of pyroomacoustics.

    Sizes, reverberation time and places are drawn for each mixture (Allen and Berkley, 1979;
    Scheibler et al., arXiv 1710.04196).

    Args:
        min_size: lower bounds of length, width and height in metres.
        max_size: upper bounds of them.
        min_rt60: lower bound of the reverberation time RT60 in seconds.
        max_rt60: upper bound of it.
        max_order: reflections of a sound after which it is left out, which bounds the time of a
            simulation: some 50 ms on a CPU core for 17, several times that for 30.
        sample_rate: in Hz.

    Raises:
        ValueError: a bound is bad, or pyroomacoustics isn't installed.
    """

    def __init__(
        self,
        min_size: Sequence[float] = (3.0, 3.0, 2.5),
        max_size: Sequence[float] = (8.0, 8.0, 3.5),
        min_rt60: float = 0.1,
        max_rt60: float = 0.5,
        max_order: int = 17,
        sample_rate: int = 16000,
    ):
        for name, sizes in (("min_size", min_size), ("max_size", max_size)):
            if isinstance(sizes, str) or len(sizes) != 3:
                raise ValueError(f"SimulatedRooms, {name}: {sizes!r}; length, width and height.")
        for low, high in zip(min_size, max_size, strict=True):
            check_number("SimulatedRooms, min_size", low, 2 * MARGIN + 2 * TOO_NEAR, 100)
            check_number("SimulatedRooms, max_size", high, low, 100, inclusive=True)
        check_number("SimulatedRooms, min_rt60", min_rt60, 0, 20)
        check_number("SimulatedRooms, max_rt60", max_rt60, min_rt60, 20, inclusive=True)
        check_whole("SimulatedRooms, max_order", max_order)
        check_whole("SimulatedRooms, sample_rate", sample_rate)
        self.sizes = list(zip(min_size, max_size, strict=True))
        self.rt60, self.max_order, self.sample_rate = (min_rt60, max_rt60), max_order, sample_rate
        self.simulator()

    def check_longest(self, segment: float) -> None:
        """Check that no room reverberates for longer than a segment, in seconds.

        Raises:
            ValueError: one may.
        """
        if self.rt60[1] > segment:
            raise ValueError(
                f"SimulatedRooms, max_rt60: {self.rt60[1]:g} s, longer than a segment of "
                f"{segment:g} s."
            )

    def simulator(self) -> Any:
        """The package.

        Raises:
            ValueError: it isn't installed.
        """
        try:
            import pyroomacoustics
        except ModuleNotFoundError:
            raise ValueError(f"SimulatedRooms: needs `{INSTALL}`.") from None
        pyroomacoustics.constants.set("num_threads", 1)  # the same sums in every process
        return pyroomacoustics

    def draw(self, draw: torch.Generator, count: int) -> list[Tensor]:
        """Responses [R] of `count` places in one room for a microphone in it."""
        size = [uniform(draw, low, high) for low, high in self.sizes]
        rt60 = uniform(draw, *self.rt60)
        volume, surface = math.prod(size), 2 * sum(math.prod(size) / side for side in size)
        absorption = 24 * math.log(10) * volume / (SOUND * surface * rt60)  # by Sabine
        simulator = self.simulator()
        room = simulator.ShoeBox(
            size,
            fs=self.sample_rate,
            materials=simulator.Material(min(absorption, ABSORBED)),
            max_order=min(math.ceil(SOUND * rt60 / min(size)), self.max_order),
        )
        microphone = place_in(size, draw)
        room.add_microphone(microphone)
        for _ in range(count):
            speaker = place_in(size, draw)
            while math.dist(speaker, microphone) < TOO_NEAR:
                speaker = place_in(size, draw)
            room.add_source(speaker)
        room.compute_rir()
        return [torch.from_numpy(np.asarray(one, dtype=np.float32)) for one in room.rir[0]]


def place_in(size: list[float], draw: torch.Generator) -> list[float]:
    """A place in a room of a size in metres, not too near to its walls."""
    return [uniform(draw, MARGIN, side - MARGIN) for side in size]


def reverberated(source: Tensor, response: Tensor, sample_rate: int) -> Tensor:
    """A source as it is heard in a room, and its direct sound, both with the source's delay.

    Args:
        source: [T].
        response: [R]; its largest absolute sample is the direct sound.
        sample_rate: in Hz.

    Returns:
        [2, T'], longer than the source by the room's reverberation.
    """
    width, peak = round(DIRECT * sample_rate), int(response.abs().argmax())
    lead = min(width, peak)
    heard = response[peak - lead :].numpy()
    direct = heard.copy()
    direct[lead + width + 1 :] = 0
    signals = [fftconvolve(source.numpy(), one)[lead:] for one in (heard, direct)]
    return torch.from_numpy(np.stack(signals).astype(np.float32))
