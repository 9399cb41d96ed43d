"""Reading and writing audio files: any rate and channel count in, mono float32 out."""

from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from src.utils.files import read_jsonl, write_beside
from src.utils.resampling import resample

SHORTFALL = 0.1  # seconds by which a file may end before what is asked of it


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        rate: in Hz.
        channels: how many.
        frames: samples of each channel. An MP3 of variable bit rate without a Xing header, as
            from a recorded stream, only has an estimate of them.
    """

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


def full_duration(path: Path) -> float:
    """Seconds of a recording, by its header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable as audio, or is empty.
    """
    info = audio_info(path)
    if info.frames == 0:
        raise ValueError(f"{path}: a header without audio.")
    return info.duration


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

    Returns:
        [T], where n samples of the file give ceil(n * rate / the file's rate).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable, ends before what is asked of it, or has samples that
            aren't finite.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            file.seek(min(round(offset * file.samplerate), file.frames))
            frames = -1 if duration is None else round(duration * file.samplerate)
            samples = file.read(frames, dtype="float32", always_2d=True)
            own_rate, kind = file.samplerate, file.format
    except soundfile.LibsndfileError as error:
        raise unreadable(path, error) from None
    if not len(samples):
        raise ValueError(f"{path}: no samples from second {offset:g} on.")
    found = len(samples) / own_rate
    # The header of an MP3 may only estimate its length, so that a wish for more is no fault.
    if duration is not None and found < duration - SHORTFALL and kind != "MP3":
        raise ValueError(f"{path}: {found:.2f} s from second {offset:g} on, wanted {duration:.2f}.")
    audio = to_mono_at(torch.from_numpy(samples.T), own_rate, rate)
    if not torch.isfinite(audio).all():
        raise ValueError(f"{path}: has samples that are not finite numbers.")
    return audio


def read_recordings(manifest: Path, rate: int) -> list[Tensor]:
    """Every recording that a manifest names, in its order, as `read_audio` gives it.

    Raises:
        FileNotFoundError: the manifest or a recording is missing.
    """
    if not manifest.exists():
        raise FileNotFoundError(f"{manifest}: no such manifest.")
    rows = read_jsonl(manifest)
    return [read_audio(manifest.parent / row["audio_filepath"], rate) for row in rows]


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
    """Write mono audio [T] as 16-bit PCM, by the ending of the name; nothing is scaled.

    Raises:
        ValueError: a sample lies outside [-1, 1] and would be clipped, or isn't finite; or the
            ending is that of no format with 16-bit samples.
    """
    kind = path.suffix[1:].upper()
    if not soundfile.check_format(kind, "PCM_16"):
        raise ValueError(f"{path}: '{path.suffix}' holds no 16-bit audio; use .wav or .flac.")
    peak = audio.abs().max().item() if audio.numel() else 0.0
    if not peak <= 1:  # so that a peak of NaN is an error too
        raise ValueError(f"{path}: the audio's peak of {peak:.3g} does not fit [-1, 1].")
    with write_beside(path) as beside:
        soundfile.write(beside, audio.cpu().numpy(), rate, subtype="PCM_16", format=kind)
