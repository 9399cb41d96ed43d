"""Audio files as such: what is there, and what its header says. Needs no torch."""

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from src.utils.options import shown
from src.utils.shard_sample import AudioPath, ShardSample

SAMPLE_RATES = (100, 1_000_000)  # Hz; any other value means a damaged header
ENDINGS = (".wav", ".flac", ".mp3", ".ogg")  # of recordings in a folder
MAX_SECONDS = 1e7  # longest duration of a recording
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class AudioInfo:
    """Sample rate, channels and length in the header of an audio file.

    Attributes:
        sample_rate: in Hz.
        channels: number of channels.
        frames: samples of each channel. An MP3 of variable bit rate without a Xing header, as
            from a recorded stream, only has an estimate.
    """

    sample_rate: int
    channels: int
    frames: int

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return self.frames / self.sample_rate


def check_file(path: Path, name: str) -> None:
    """Raise unless there is a regular file; opening a FIFO would wait forever.

    Args:
        path: of the file.
        name: what it should be, for the message, e.g. "audio file".

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is a folder, a FIFO, a device or a socket, or can't be looked up.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path}: no such {name}.") from None
    except OSError as error:
        raise ValueError(f"{shown(str(path))}: no {name} ({error.strerror}).") from None
    except ValueError as error:  # NUL, or half of a surrogate pair
        raise ValueError(f"{shown(str(path))}: no {name} ({error}).") from None
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "no regular file")
        article = "an" if name[0] in "aeiou" else "a"
        raise ValueError(f"{path}: {kind}, not {article} {name}.")


@contextmanager
def open_audio(path: AudioPath) -> Iterator[soundfile.SoundFile]:
    """An audio file, open for reading, with errors that name the file.

    One in a shard is read whole and decoded from memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable as audio.
        OSError: the network or the server of its shard fails.
    """
    given: str | io.BytesIO
    if isinstance(path, ShardSample):
        given = io.BytesIO(path.read_bytes())
    else:
        check_file(path, "audio file")
        given = str(path)
    low, high = SAMPLE_RATES
    try:
        with soundfile.SoundFile(given) as file:
            if not low <= file.samplerate <= high:
                raise ValueError(
                    f"{path}: a sample rate of {file.samplerate} Hz; allowed are {low} to {high}."
                )
            yield file
    except (soundfile.SoundFileError, TypeError, MemoryError, OSError) as error:
        reason = str(error).rsplit(": ", 1)[-1].rstrip(".") or type(error).__name__
        raise ValueError(f"{path}: not readable as audio ({reason}).") from None


def encode_audio(
    samples: np.ndarray, rate: int, format: str, subtype: str, level: float | None = None
) -> bytes:
    """An audio file of samples [T] or [T, channels]; values beyond full scale are clipped.

    Args:
        samples: floats, or whole numbers of 32 bits.
        rate: in Hz.
        format: of libsndfile, e.g. FLAC.
        subtype: of libsndfile, e.g. PCM_16.
        level: of compression, from 0 to 1; None: the usual one.

    Raises:
        ValueError: the format doesn't have this rate or number of channels.
    """
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    buffer = io.BytesIO()
    options = {"subtype": subtype, "format": format, "compression_level": level}
    try:
        with soundfile.SoundFile(buffer, "w", rate, channels, **options) as file:
            # libsndfile's encoders need stack for a block: minutes at once crash the process.
            for start in range(0, len(samples), rate):
                file.write(samples[start : start + rate])
    except soundfile.SoundFileError as error:
        reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
        raise ValueError(
            f"{format} of {subtype} can't hold {channels} channels at {rate} Hz ({reason})."
        ) from None
    return buffer.getvalue()


def audio_info(path: AudioPath) -> AudioInfo:
    """Sample rate, channels and frames of an audio file, by its header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable as audio.
    """
    with open_audio(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def full_duration(path: AudioPath) -> float:
    """Seconds of a recording, by its header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable as audio, or is empty, or its header is damaged.
    """
    info = audio_info(path)
    if info.frames == 0:
        raise ValueError(f"{path}: a header without audio.")
    if info.duration > MAX_SECONDS:
        raise ValueError(f"{path}: {info.frames} samples by its header; it is damaged or a stream.")
    return info.duration


def is_recording(path: Path) -> bool:
    """Whether a path is an audio file by its name, and not hidden or a folder."""
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".") and not path.is_dir()
