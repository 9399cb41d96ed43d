"""Reading and writing audio files: any sample rate and channel count in, mono float32 out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from src.utils.audio_files import (
    ENDINGS,
    MAX_SECONDS,
    SAMPLE_RATES,
    audio_info,
    check_file,
    is_recording,
    open_audio,
)
from src.utils.files import read_jsonl, write_beside
from src.utils.options import check_number, check_whole, shown
from src.utils.resampling import resample, resampled
from src.utils.shard_sample import AudioPath, audio_place, check_shard

LONG = 300  # seconds from which a file is read in blocks
BLOCK = 10  # seconds
RESERVED = 1 << 28  # samples at first
SHORTFALL = 0.1  # seconds by which a file may be shorter than requested
MOST_CHANNELS = 64
# Value of silence and of full scale above it.
PCM = {torch.uint8: (128, 2.0**7), torch.int16: (0, 2.0**15), torch.int32: (0, 2.0**31)}


def read_audio(
    path: AudioPath, sample_rate: int, offset: float = 0.0, duration: float | None = None
) -> Tensor:
    """Mono audio [T] in [-1, 1] at a sample rate; channels are averaged.

    Args:
        path: wav, flac, ogg, mp3 or whatever else libsndfile reads; or such a file in a shard.
        sample_rate: of the audio returned, in Hz.
        offset: where to start, in seconds.
        duration: how much to read, in seconds; None: to the end. An MP3 of variable bit rate whose
            header doesn't tell its length, as from a recorded stream, may end earlier: libsndfile
            stops where it expects the end.

    Returns:
        [T], where n samples of the file give ceil(n * sample_rate / the file's sample rate).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable, ends before what is asked of it, or has samples that
            aren't finite; or `offset` or `duration` is out of range.
    """
    check_number(f"{path}: offset", offset, high=MAX_SECONDS, inclusive=True)
    check_number(f"{path}: duration", duration, high=MAX_SECONDS, optional=True)
    with open_audio(path) as file:
        file.seek(min(round(offset * file.samplerate), file.frames))
        frames = -1 if duration is None else round(duration * file.samplerate)
        file_rate, kind = file.samplerate, file.format
        size = file.frames - file.tell() if frames < 0 else frames
        if size > LONG * file_rate:
            count, audio = read_long(file, size, frames < 0, sample_rate)
        else:
            samples = torch.from_numpy(file.read(frames, dtype="float32", always_2d=True).T)
            count = samples.shape[1]
            audio = to_mono_at(samples, file_rate, sample_rate) if count else samples[0]
    if not count:
        raise ValueError(f"{path}: no samples from second {offset:g} on.")
    seconds = count / file_rate
    # The header of an MP3 may only have an estimate of the length, so a shorter file is no error.
    if duration is not None and kind != "MP3":
        check_duration(path, seconds, offset, duration)
    values = audio.numpy()  # of which NumPy finds the extremes without a copy or threads
    if not np.isfinite([values.min(), values.max()]).all():
        raise ValueError(f"{path}: has samples that are not finite numbers.")
    return audio


def check_duration(path: AudioPath, seconds: float, offset: float, duration: float) -> None:
    """Check that a file doesn't end before what is asked of it.

    Args:
        path: of the file.
        seconds: that it has from `offset` on.
        offset: where to start, in seconds.
        duration: wanted, in seconds.

    Raises:
        ValueError: it does.
    """
    if seconds < duration - SHORTFALL:
        raise ValueError(
            f"{path}: {seconds:.2f} s from second {offset:g} on, wanted {duration:.2f}."
        )


def read_long(
    file: soundfile.SoundFile, size: int, to_end: bool, sample_rate: int
) -> tuple[int, Tensor]:
    """The rest of a long file block by block, so that it is in memory only once and only as mono.

    Args:
        file: open at the first frame to be read.
        size: frames to read; only an estimate if `to_end`.
        to_end: whether to read until there are no more, as libsndfile has it: for some MP3s,
            that is before their end.
        sample_rate: of the audio returned, in Hz.

    Returns:
        How many frames were read, and the audio [T].
    """
    count = 0

    def blocks() -> Iterator[Tensor]:
        nonlocal count
        while to_end or count < size:
            most = BLOCK * file.samplerate
            samples = file.read(most if to_end else min(most, size - count), "float32", True)
            if not len(samples):
                return
            count += len(samples)
            yield torch.from_numpy(samples.T).mean(dim=0)

    # Memory that isn't written to isn't used; a header may tell any size.
    audio = torch.empty(min(-(-size * sample_rate // file.samplerate), RESERVED))
    filled = 0
    for block in resampled(blocks(), file.samplerate, sample_rate):
        if filled + len(block) > len(audio):
            audio = torch.cat([audio[:filled], torch.empty(filled + len(block))])
        audio[filled : filled + len(block)] = block
        filled += len(block)
    return count, audio[:filled]


class Recording:
    """A file of which a part [t] is read when it is asked for, as by `recording[start:end]`.

    Args:
        path: of the file.
        sample_rate: of the parts, in Hz.
        offset: where in the file it starts, in seconds.
        duration: in seconds; None: to the end of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't readable as audio, or ends before what is asked of it.
    """

    def __init__(
        self, path: AudioPath, sample_rate: int, offset: float = 0.0, duration: float | None = None
    ):
        info = audio_info(path)
        frames = info.frames - round(offset * info.sample_rate)
        if duration is not None:
            check_duration(path, frames / info.sample_rate, offset, duration)
            frames = min(frames, round(duration * info.sample_rate))
        if frames < 1:
            raise ValueError(f"{path}: no samples from second {offset:g} on.")
        self.path, self.sample_rate, self.offset = path, sample_rate, offset
        self.size = -(-frames * sample_rate // info.sample_rate)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> Tensor:
        start, end, _ = part.indices(self.size)
        rate = self.sample_rate
        audio = read_audio(self.path, rate, self.offset + start / rate, (end - start) / rate)
        return audio[: end - start]


Audio = str | Path | Tensor | np.ndarray | tuple | Recording


def given_audio(
    audio: Audio, own_rate: int | None, sample_rate: int, longest: float | None = None
) -> Tensor | Recording:
    """Any form of audio as mono samples [T] at a sample rate.

    Args:
        audio: a path; samples [T] or [channels, T]; a pair (samples, their sample rate); or a
            `Recording` of the sample rate.
        own_rate: of samples given without it, in Hz.
        sample_rate: of the audio returned, in Hz.
        longest: seconds from which on a file isn't read, but returned as a `Recording`, unless its
            header may not know its length. None: never.

    Raises:
        ValueError: no samples, or samples without a sample rate, or a file that can't be read.
        FileNotFoundError: there is no such file.
    """
    if isinstance(audio, str | Path):
        path = Path(audio)
        if longest is not None and knows_length(path):
            recording = Recording(path, sample_rate)
            if len(recording) > longest * sample_rate:
                return recording
        return read_audio(path, sample_rate)
    if isinstance(audio, Recording):
        if audio.sample_rate != sample_rate:
            raise ValueError(f"{audio.path}: a Recording of {audio.sample_rate} Hz; {sample_rate}.")
        whole = longest is None or len(audio) <= longest * sample_rate
        return audio[:] if whole else audio
    if isinstance(audio, tuple):
        if len(audio) != 2:
            raise ValueError(f"A tuple of {len(audio)}; (samples, sample_rate).")
        audio, own_rate = audio
    if own_rate is None:
        raise ValueError("Samples need a sample rate: call with (samples, sample_rate).")
    check_whole("sample_rate", own_rate, *SAMPLE_RATES)
    samples = given_samples(audio)
    if not samples.numel():
        raise ValueError("samples: none at all.")
    return to_mono_at(samples, own_rate, sample_rate)


def knows_length(path: Path) -> bool:
    """Whether the header of a file knows its length: that of an MP3 may not."""
    return path.suffix.lower() != ".mp3"


def given_samples(samples: Any) -> Tensor:
    """Samples of a caller as float32 [T] or [channels, T].

    Args:
        samples: a tensor, an array or a list of floats; or PCM of 16 or 32 bits, or of 8 bits
            without sign, which is scaled to [-1, 1].

    Raises:
        ValueError: other shapes (with more than 64 channels, it is probably [T, channels]) or
            types of numbers, values that aren't finite, or no samples at all, e.g. a text.
    """
    try:
        given = torch.as_tensor(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"samples: {type(samples).__name__}, no numbers ({error}).") from None
    if given.numel() and given.dtype not in PCM and not given.is_floating_point():
        kind = str(given.dtype).removeprefix("torch.")
        raise ValueError(f"samples: {kind}, whose full scale is unknown; floats in [-1, 1].")
    silence, full_scale = PCM.get(given.dtype, (0, 1.0))
    audio = (given.float() - silence) / full_scale
    if audio.ndim not in (1, 2) or (audio.ndim == 2 and not 1 <= len(audio) <= MOST_CHANNELS):
        raise ValueError(f"samples: of shape {list(audio.shape)}; [T] or [channels, T].")
    if not audio.isfinite().all():
        raise ValueError("samples: some are not finite numbers.")
    return audio


def read_recordings(source: Path, sample_rate: int) -> list[Tensor]:
    """Every recording of a manifest or a folder, in its order: mono audio [T] in [-1, 1].

    Args:
        source: as for `recordings_in`.
        sample_rate: of the audio returned, in Hz.

    Raises:
        FileNotFoundError: the manifest or a recording is missing.
        ValueError: the manifest is no such file or names none, or a recording isn't readable.
    """
    return [recording[:] for recording in recordings_in(source, sample_rate)]


def recordings_in(source: Path, sample_rate: int) -> list[Recording]:
    """The recordings that a manifest names, in its order, or that are in a folder, by name.

    Args:
        source: JSON lines with `audio_filepath`, relative to its folder, and perhaps `offset` and
            `duration` of a part in seconds; or a folder, of which all audio files are taken, those
            in subfolders too.
        sample_rate: of the audio, in Hz.

    Raises:
        FileNotFoundError: the manifest or a recording is missing, or there is no audio file in the
            folder.
        ValueError: the manifest is no such file or names none, or a recording isn't readable.
    """
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if is_recording(path))
        if not found:
            raise FileNotFoundError(f"{source}: no {', '.join(ENDINGS)} in this folder.")
        return [Recording(path, sample_rate) for path in found]
    check_file(source, "manifest")
    rows = read_jsonl(source)
    for number, row in enumerate(rows, start=1):
        path, place = row.get("audio_filepath"), f"{source}, row {number}"
        if not isinstance(path, str) or not path:
            raise ValueError(f"{place}: audio_filepath is {shown(path)}; a path.")
        offset = row.get("offset")
        check_number(f"{place}: offset", offset, high=MAX_SECONDS, inclusive=True, optional=True)
        check_number(f"{place}: duration", row.get("duration"), high=MAX_SECONDS, optional=True)
        if row.get("shard") is not None:
            try:
                check_shard(row)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
    if not rows:
        raise ValueError(f"{source}: lists no recordings.")
    parts = [(row.get("offset") or 0.0, row.get("duration")) for row in rows]
    places = [audio_place(row, source.parent) for row in rows]
    return [Recording(place, sample_rate, *part) for place, part in zip(places, parts, strict=True)]


def to_mono_at(samples: Tensor, own_rate: int, sample_rate: int) -> Tensor:
    """Mono audio [T] at a sample rate; channels are averaged.

    Args:
        samples: [T] or [channels, T].
        own_rate: of the samples, in Hz.
        sample_rate: of the audio returned, in Hz.

    Returns:
        [T].
    """
    if samples.ndim == 2:
        samples = samples.mean(dim=0)
    if own_rate == sample_rate:
        return samples.contiguous()
    return resample(samples, own_rate, sample_rate)


def write_audio(path: Path, audio: Tensor, sample_rate: int) -> None:
    """Write mono audio [T] as 16-bit PCM; nothing is scaled.

    Args:
        path: ends in .wav, .flac or another format with 16-bit samples.
        audio: [T] in [-1, 1].
        sample_rate: in Hz.

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
        soundfile.write(beside, audio.cpu().numpy(), sample_rate, subtype="PCM_16", format=kind)
