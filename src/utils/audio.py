"""Reading and writing audio files: any rate and channel count in, mono float32 out."""

from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torchaudio.functional import resample

from src.utils.files import write_beside


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says; `duration` in seconds."""

    rate: int
    channels: int
    frames: int

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.frames / self.rate


def audio_info(path: Path) -> AudioInfo:
    """The header of an audio file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable as audio.
    """
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise unreadable(path, error) from None
    return AudioInfo(info.samplerate, info.channels, info.frames)


def unreadable(path: Path, error: Exception) -> Exception:
    """The error for a file that can't be read."""
    if not path.exists():
        return FileNotFoundError(f"{path}: no such audio file.")
    reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
    return ValueError(f"{path}: not readable as audio ({reason}).")


def read_audio(path: Path, rate: int, offset: float = 0.0, duration: float | None = None) -> Tensor:
    """Mono audio [T] in [-1, 1] at the wanted rate; channels are averaged.

    Args:
        path: wav, flac, ogg, mp3 or whatever else libsndfile reads.
        rate: wanted, in Hz.
        offset: where to start, in seconds.
        duration: how much to read, in seconds; None: to the end.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable, has no samples there, or has samples that aren't finite.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            file.seek(min(round(offset * file.samplerate), file.frames))
            frames = -1 if duration is None else round(duration * file.samplerate)
            samples = file.read(frames, dtype="float32", always_2d=True)
            own_rate = file.samplerate
    except soundfile.LibsndfileError as error:
        raise unreadable(path, error) from None
    if not len(samples):
        raise ValueError(f"{path}: no samples from second {offset:g} on.")
    audio = to_mono_at(torch.from_numpy(samples.T), own_rate, rate)
    if not torch.isfinite(audio).all():
        raise ValueError(f"{path}: has samples that are not finite numbers.")
    return audio


def to_mono_at(samples: Tensor, own_rate: int, rate: int) -> Tensor:
    """Average channels and convert the rate.

    Args:
        samples: [T] or [channels, T].
        own_rate: of the samples, in Hz.
        rate: wanted, in Hz.

    Returns:
        [T].
    """
    if samples.ndim == 2:
        samples = samples.mean(dim=0)
    return samples.contiguous() if own_rate == rate else resample(samples, own_rate, rate)


def write_audio(path: Path, audio: Tensor, rate: int) -> None:
    """Write mono audio [T] as 16-bit PCM, by the ending of the name.

    Raises:
        ValueError: a sample lies outside [-1, 1], and would be clipped.
    """
    peak = audio.abs().max().item() if audio.numel() else 0.0
    if peak > 1:
        raise ValueError(f"{path}: the audio's peak of {peak:.3g} does not fit [-1, 1].")
    kind = path.suffix[1:].upper()
    with write_beside(path) as beside:
        soundfile.write(beside, audio.cpu().numpy(), rate, subtype="PCM_16", format=kind)
