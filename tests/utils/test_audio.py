import math

import numpy as np
import pytest
import soundfile
import torch

from src.utils.audio import audio_info, full_duration, read_audio, to_mono_at, write_audio
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
    found = read_audio(path, 100, offset=2.0, duration=3.0)
    torch.testing.assert_close(found, torch.arange(200.0, 500.0) / 2000)


@pytest.mark.parametrize(("own_rate", "frames"), [(44100, 44101), (8000, 7999), (48000, 100)])
def test_exact_number_of_samples(tmp_path, own_rate, frames):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(frames + 50), own_rate)
    wanted = math.ceil(frames * 16000 / own_rate)
    assert len(read_audio(path, 16000, duration=frames / own_rate)) == wanted
    assert len(read_audio(path, 16000, offset=50 / own_rate)) == wanted


def test_shorter_than_asked(tmp_path):
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


def test_faults_name_the_file(tmp_path):
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
    with pytest.raises(ValueError, match="not readable as audio"):
        read_audio(tmp_path, 16000)
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match="nan.wav: .* not finite"):
        read_audio(nan, 16000)


def test_written_audio_comes_back(tmp_path):
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
def test_what_cannot_be_written(tmp_path, name, value, words):
    with pytest.raises(ValueError, match=f"{name}: .*{words}"):
        write_audio(tmp_path / name, torch.tensor([0.0, value, 0.1]), 16000)
    assert list(tmp_path.iterdir()) == []


def test_samples_in_memory():
    stereo = torch.stack([torch.ones(100), torch.zeros(100)])
    torch.testing.assert_close(to_mono_at(stereo, 16000, 16000), torch.full((100,), 0.5))
    assert len(to_mono_at(torch.zeros(100), 8000, 16000)) == 200
