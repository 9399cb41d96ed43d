import math
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from src.utils.audio import (
    Recording,
    given_audio,
    read_audio,
    read_recordings,
    to_mono_at,
    write_audio,
)
from src.utils.audio_files import audio_info, full_duration
from src.utils.streams import read_blocks
from tests.demo import sine


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_format_rate_and_channel_count(tmp_path, ending, rate, channels):
    path = sine(tmp_path / f"a.{ending}", rate, 1.0, channels)
    audio = read_audio(path, 16000)
    assert abs(len(audio) - 16000) <= 40
    spectrum = torch.fft.rfft(audio[4000:12000]).abs()
    assert spectrum.argmax() * 2 == 440  # bins are 2 Hz apart
    level = audio[4000:12000].square().mean().sqrt()
    assert abs(level - 0.3 / 2**0.5) < 0.01


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([[0.5, -0.25]] * 100), 16000, subtype="FLOAT")
    torch.testing.assert_close(read_audio(path, 16000), torch.full((100,), 0.125))
    assert audio_info(path).channels == 2


def test_part_of_a_file(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.arange(1000) / 2000, 100, subtype="FLOAT")
    audio = read_audio(path, 100, offset=2.0, duration=3.0)
    torch.testing.assert_close(audio, torch.arange(200.0, 500.0) / 2000)


@pytest.mark.parametrize(("own_rate", "frames"), [(44100, 44101), (8000, 7999), (48000, 100)])
def test_exact_number_of_samples(tmp_path, own_rate, frames):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(frames + 50), own_rate)
    wanted = math.ceil(frames * 16000 / own_rate)
    assert len(read_audio(path, 16000, duration=frames / own_rate)) == wanted
    assert len(read_audio(path, 16000, offset=50 / own_rate)) == wanted


def test_file_shorter_than_requested(tmp_path):
    path = sine(tmp_path / "a.wav", 8000, 1.0)
    assert len(read_audio(path, 8000, offset=0.5, duration=0.55)) == 4000
    with pytest.raises(ValueError, match=r"a.wav: 0.50 s from second 0.5 on, wanted 0.75"):
        read_audio(path, 8000, offset=0.5, duration=0.75)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_damaged_flac(tmp_path, place):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 48000), 16000)
    data = bytearray(path.read_bytes())
    start = int(place * len(data))
    data[start : start + 600] = bytes(600)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a.flac: not readable as audio"):
        read_audio(path, 16000)


def test_errors_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.wav"):
        read_audio(tmp_path / "none.wav", 16000)
    broken = tmp_path / "broken.flac"
    broken.write_bytes(b"fLaC nothing")
    with pytest.raises(ValueError, match="broken.flac: not readable as audio"):
        read_audio(broken, 16000)
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0), 16000)
    with pytest.raises(ValueError, match="empty.wav: no samples"):
        read_audio(empty, 16000)
    with pytest.raises(ValueError, match=r"empty.wav: a header without audio"):
        full_duration(empty)
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match="nan.wav: .* not finite"):
        read_audio(nan, 16000)


def test_round_trip(tmp_path):
    audio = torch.linspace(-0.99, 0.99, 500)
    write_audio(tmp_path / "a.flac", audio, 16000)
    assert (read_audio(tmp_path / "a.flac", 16000) - audio).abs().max() < 1 / 32000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.flac"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("loud.wav", 2.0, "peak of 2 does not fit"),
        ("nan.wav", float("nan"), "peak of nan does not fit"),
        ("a.mp3", 0.5, "'.mp3' holds no 16-bit audio"),
        ("a", 0.5, "'' holds no 16-bit audio"),
    ],
)
def test_unwritable_audio_raises(tmp_path, name, value, words):
    with pytest.raises(ValueError, match=f"{name}: .*{words}"):
        write_audio(tmp_path / name, torch.tensor([0.0, value, 0.1]), 16000)
    assert list(tmp_path.iterdir()) == []


def test_samples_in_memory():
    stereo = torch.stack([torch.ones(100), torch.zeros(100)])
    torch.testing.assert_close(to_mono_at(stereo, 16000, 16000), torch.full((100,), 0.5))
    assert len(to_mono_at(torch.zeros(100), 8000, 16000)) == 200


READERS = {
    "info": audio_info,
    "duration": full_duration,
    "audio": lambda path: read_audio(path, 16000),
    "blocks": lambda path: list(read_blocks(path)),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_special_files_raise(tmp_path, read):
    os.mkfifo(tmp_path / "fifo.wav")
    (tmp_path / "link.wav").symlink_to(tmp_path / "fifo.wav")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.wav"))
    for path, words in (
        (tmp_path / "fifo.wav", "a FIFO, not an audio file"),
        (tmp_path / "link.wav", "a FIFO, not an audio file"),
        (tmp_path / "s.wav", "a socket, not an audio file"),
        (Path("/dev/zero"), "a device, not an audio file"),
        (tmp_path, "a folder, not an audio file"),
    ):
        with pytest.raises(ValueError) as error:
            read(path)
        assert str(error.value) == f"{path}: {words}."


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 2500, "nul\0.wav", "half\ud800.wav"])
def test_impossible_paths(tmp_path, read, name):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        read(tmp_path / name)
    assert len(str(error.value)) < 200 and str(error.value).isascii()
    assert "audio file" in str(error.value)


def test_loop_of_links(tmp_path):
    (tmp_path / "a.wav").symlink_to(tmp_path / "a.wav")
    with pytest.raises(ValueError, match=r"a.wav'?: no audio file \("):
        read_audio(tmp_path / "a.wav", 16000)


def test_raw_samples_without_a_header(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(100))
    with pytest.raises(ValueError, match=r"a.raw: not readable as audio \(samplerate must"):
        read_audio(tmp_path / "a.raw", 16000)


@pytest.mark.parametrize("rate", [0, 1, 99, 2**31 - 1])
def test_sample_rates_of_damaged_headers(tmp_path, rate):
    path = sine(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a.wav: .*(sample rate of|not readable)"):
        read_audio(path, 16000)


@pytest.mark.parametrize("value", [1e308, 10**400, -1, float("nan"), "abc", True])
def test_bad_offsets_and_durations(tmp_path, value):
    path = sine(tmp_path / "a.wav")
    for options, allowed in (({"offset": value}, "from 0 to 1e"), ({"duration": value}, "above 0")):
        (name,) = options
        with pytest.raises(ValueError, match=rf"a.wav: {name}: .*; a number {allowed}"):
            read_audio(path, 16000, **options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no recordings"),
        ("[1]\n", "line 1: a JSON list"),
        ('{"audio_filepath": 3}\n', "row 1: audio_filepath is 3; a path"),
        ("[" * 100_000 + "\n{}\n", "line 1: JSON that is nested too deeply"),
        ('{"audio_filepath": "none.wav"}\n', "none.wav: no such audio file"),
    ],
)
def test_bad_lists_of_recordings(tmp_path, text, words):
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        read_recordings(tmp_path / "m.jsonl", 16000)


def test_folder_of_recordings(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \.wav, \.flac, \.mp3, \.ogg in this folder"):
        read_recordings(tmp_path, 16000)
    (tmp_path / "b").mkdir()
    sine(tmp_path / "b" / "1.wav", seconds=0.1)
    sine(tmp_path / "c.WAV", seconds=0.2)
    (tmp_path / "notes.txt").write_text("no audio")
    assert [len(one) for one in read_recordings(tmp_path, 16000)] == [1600, 3200]


def test_list_is_not_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"m: no such manifest"):
        read_recordings(tmp_path / "m", 16000)
    (tmp_path / "m").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="m, line 1: not UTF-8"):
        read_recordings(tmp_path / "m", 16000)


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg"])
def test_damaged_files_are_read_or_named(tmp_path, ending):
    """A hundred files with some bytes changed, or cut short."""
    path = sine(tmp_path / f"a.{ending}", 16000, 0.5)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        data = np.frombuffer(whole, np.uint8).copy()
        size = int(rng.choice([50, 500, len(data)]))
        data[rng.integers(0, min(size, len(data)), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(data[: int(rng.integers(0, len(data))) if rng.random() < 0.3 else None])
        for read in (*READERS.values(), lambda path: read_audio(path, 16000, 0.1, 0.3)):
            try:
                read(path)
            except ValueError as error:
                assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_parts_of_a_recording(tmp_path, rate):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (3 * rate + 7, 2))
    soundfile.write(tmp_path / "x.wav", samples, rate, subtype="FLOAT")
    whole = read_audio(tmp_path / "x.wav", 16000)
    recording = given_audio(tmp_path / "x.wav", None, 16000, longest=2.0)
    assert isinstance(recording, Recording) and len(recording) == len(whole)
    part = recording[16000:40000]
    torch.testing.assert_close(part[100:-100], whole[16100:39900], atol=1e-4, rtol=1e-4)
    assert torch.is_tensor(given_audio(tmp_path / "x.wav", None, 16000, longest=4.0))


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("duration", [None, 2.5])
def test_long_files_are_read_in_blocks(tmp_path, monkeypatch, rate, duration):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (3 * rate + 7, 2))
    soundfile.write(tmp_path / "x.wav", samples, rate, subtype="FLOAT")
    whole = read_audio(tmp_path / "x.wav", 16000, 0.25, duration)
    monkeypatch.setattr("src.utils.audio.LONG", 1)
    monkeypatch.setattr("src.utils.audio.BLOCK", 1)
    blocks = read_audio(tmp_path / "x.wav", 16000, 0.25, duration)
    assert blocks.shape == whole.shape
    torch.testing.assert_close(blocks, whole, atol=1e-5, rtol=1e-5)


def test_given_samples():
    half = np.full(4, 0.5)
    for given in (half, list(half), torch.full((4,), 0.5), np.full(4, 2**14, dtype=np.int16)):
        assert given_audio(given, 16000, 16000).tolist() == [0.5] * 4
    eight_bits = np.full(4, 192, dtype=np.uint8)
    assert given_audio(eight_bits, 16000, 16000).tolist() == [0.5] * 4
    stereo = (np.stack([half, 0 * half]), 16000)
    assert given_audio(stereo, None, 16000).tolist() == [0.25] * 4
    for given, rate, named in (
        (np.zeros((16000, 2)), 16000, r"\[16000, 2\]; \[T\] or \[channels, T\]"),
        (np.zeros((1, 1, 4)), 16000, r"\[1, 1, 4\]"),
        ([0.0, float("nan")], 16000, "finite"),
        ([0, 1], 16000, "samples: int64, whose full scale is unknown; floats in"),
        (np.zeros(4, dtype=np.uint16), 16000, "samples: uint16, whose"),
        (np.zeros(0), 16000, "samples: none at all"),
        ([0.0, "a"], 16000, "samples: list, no numbers"),
        ((16000, half), None, "sample_rate: array"),
        ((half, 16000, 1), None, "A tuple of 3"),
        (half, 16000.5, "sample_rate: 16000.5; a whole number from 100 to 1000000"),
        (half, None, "need a sample rate"),
    ):
        with pytest.raises(ValueError, match=named):
            given_audio(given, rate, 16000)


def test_a_given_recording_is_read_unless_it_is_long(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.linspace(-0.5, 0.5, 16000), 8000)
    recording = Recording(tmp_path / "a.wav", 8000, 0.5, 1.0)
    assert given_audio(recording, None, 8000, longest=0.9) is recording
    samples = read_audio(tmp_path / "a.wav", 8000, 0.5, 1.0)
    assert torch.equal(given_audio(recording, None, 8000), samples)
    with pytest.raises(ValueError, match=r"a.wav: a Recording of 8000 Hz; 16000\."):
        given_audio(recording, None, 16000)
