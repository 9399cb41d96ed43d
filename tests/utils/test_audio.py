import numpy as np
import pytest
import soundfile
import torch

from src.utils.audio import audio_info, read_audio, to_mono_at, write_audio
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
    nan = tmp_path / "nan.wav"
    soundfile.write(nan, np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match="nan.wav: .* not finite"):
        read_audio(nan, 16000)


def test_written_audio_comes_back(tmp_path):
    audio = torch.linspace(-0.99, 0.99, 500)
    write_audio(tmp_path / "a.flac", audio, 16000)
    assert (read_audio(tmp_path / "a.flac", 16000) - audio).abs().max() < 1 / 32000
    with pytest.raises(ValueError, match=r"loud.wav: .* 2"):
        write_audio(tmp_path / "loud.wav", torch.tensor([2.0]), 16000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.flac"]


def test_samples_in_memory():
    stereo = torch.stack([torch.ones(100), torch.zeros(100)])
    torch.testing.assert_close(to_mono_at(stereo, 16000, 16000), torch.full((100,), 0.5))
    assert len(to_mono_at(torch.zeros(100), 8000, 16000)) == 200
