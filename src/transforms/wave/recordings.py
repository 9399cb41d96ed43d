"""Recordings of noise or of room impulse responses that transforms use."""

from functools import cached_property
from pathlib import Path

from torch import Tensor

from src.utils.audio import Recording, recordings_in
from src.utils.options import check_whole
from src.utils.shard_sample import AudioPath

KEPT = 1 << 26  # samples in all that are kept in memory, 256 MiB


class Recordings:
    """The recordings of a manifest or a folder, mono at one sample rate.

    Small collections are kept in memory; of larger ones, such as MUSAN, only what is asked for is
    read. What is returned doesn't depend on what was read before. Nothing is read before the first
    use, since the demo's noise is made after its transforms.

    Args:
        source: a manifest, JSON lines with `audio_filepath`, and perhaps `offset` and `duration` of
            a part; or a folder, of which all audio files are taken, those in subfolders too.
        sample_rate: in Hz.

    Raises:
        FileNotFoundError: the manifest or a recording does not exist.
        ValueError: there are no recordings, or one is not readable.
    """

    def __init__(self, source: Path, sample_rate: int):
        check_whole("sample_rate", sample_rate)
        self.source, self.sample_rate = source, sample_rate

    @cached_property
    def files(self) -> list[Recording]:
        """The recordings on disk; made of their headers."""
        return recordings_in(self.source, self.sample_rate)

    @property
    def paths(self) -> list[AudioPath]:
        """The files."""
        return [recording.path for recording in self.files]

    @cached_property
    def lengths(self) -> list[int]:
        """Samples of each recording at the sample rate, as the headers have them."""
        return [len(recording) for recording in self.files]

    def check(self) -> None:
        """Read all headers, so that a missing file is an error before training.

        Raises:
            FileNotFoundError: the manifest or a recording does not exist.
            ValueError: there are no recordings, or one is not readable.
        """
        _ = self.files

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def kept(self) -> list[Tensor] | None:
        """All recordings, each [T], if they are small enough together to be kept in memory."""
        if sum(self.lengths) > KEPT:
            return None
        return [recording[:] for recording in self.files]

    def whole(self, index: int) -> Tensor:
        """A recording [T]."""
        if self.kept is not None:
            return self.kept[index]
        return self.files[index][:]

    def excerpt(self, index: int, start: float, length: int) -> Tensor:
        """Part of a recording [length], which is repeated where it is too short.

        Args:
            index: of the recording.
            start: as a fraction of the recording, from 0 to less than 1.
            length: in samples.
        """
        if self.kept is not None or length >= self.lengths[index]:
            recording = self.whole(index)
            first = int(start * len(recording))
        else:
            size = self.lengths[index]
            first = min(int(start * size), size - length)
            recording, first = self.files[index][first : first + length], 0
        repeats = -(-(first + length) // len(recording))
        return recording.repeat(repeats)[first : first + length]


def recordings_path(owner: str, manifest: str | Path | None) -> Path | None:
    """The path of an option, or None if it is not set.

    Args:
        owner: name of the transform, for the message.
        manifest: value of the option.

    Raises:
        ValueError: the value is neither a path nor None.
    """
    if manifest is None:
        return None
    if not isinstance(manifest, str | Path) or not str(manifest):
        raise ValueError(
            f"{owner}, manifest: {manifest!r}; the path of a manifest or a folder, or null."
        )
    return Path(manifest)
