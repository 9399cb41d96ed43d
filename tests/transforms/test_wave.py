import math

import pytest
import soundfile
import torch

from src.transforms.wave.band import BandLimit
from src.transforms.wave.clipping import Clipping
from src.transforms.wave.codec import CODECS, Codec
from src.transforms.wave.gain import Gain
from src.transforms.wave.low_sample_rate import LowSampleRate
from src.transforms.wave.noise import AddNoise, AddWhiteNoise
from src.transforms.wave.pitch import Pitch
from src.transforms.wave.room import RoomResponse
from src.transforms.wave.speed import Speed

SAMPLE_RATE = 16000


def tone(hertz, seconds=1.0):
    return 0.3 * torch.sin(
        2 * math.pi * hertz * torch.arange(int(SAMPLE_RATE * seconds)) / SAMPLE_RATE
    )


def run(transform, audio, seed=3):
    batch = {"audio": audio[None], "audio_length": torch.tensor([len(audio)])}
    result = transform(seed=torch.tensor([seed]), **batch)
    return result["audio"][0, : int(result["audio_length"][0])]


def pitch_of(audio):
    spectrum = torch.fft.rfft(audio * torch.hann_window(len(audio))).abs()
    return spectrum.argmax().item() * SAMPLE_RATE / len(audio)


def decibel(a, b):
    return 10 * torch.log10(a.square().sum() / b.square().sum()).item()


def test_noise_has_requested_snr():
    audio = torch.cat([tone(440), torch.zeros(0)])
    noise = run(AddWhiteNoise(min_snr_db=7, max_snr_db=7), audio) - audio
    assert decibel(audio, noise) == pytest.approx(7, abs=1e-3)


def test_silence_stays_silent():
    assert not run(AddWhiteNoise(), torch.zeros(1000)).any()


def test_gain_in_decibel():
    assert decibel(run(Gain(6, 6), tone(440)), tone(440)) == pytest.approx(6, abs=1e-4)


def test_clipping_level():
    result = run(Clipping(0.5, 0.5), tone(440))
    assert result.abs().max() == pytest.approx(0.15, abs=1e-4)


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_do_not_delay(codec):
    audio = tone(440)[:15_555]
    decoded = run(Codec([codec], 0.3, 0.3, sample_rate=SAMPLE_RATE), audio)
    assert len(decoded) == len(audio) and not torch.equal(decoded, audio)
    assert decibel(decoded - audio, audio) < -12  # a delay of two samples would leave -9 dB


def test_codecs_take_minutes():
    """Vorbis encoded at once would crash the process."""
    audio = tone(440, 150.0)
    assert decibel(run(Codec(["vorbis"]), audio) - audio, audio) < -12


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_speed_changes_duration_and_pitch(factor):
    result = run(Speed([factor]), tone(800))
    assert len(result) == pytest.approx(SAMPLE_RATE / factor, abs=1)
    assert pitch_of(result) == pytest.approx(800 * factor, abs=2)


@pytest.mark.parametrize("semitones", [-2, 2])
def test_pitch_keeps_the_duration(semitones):
    result = run(Pitch(semitones, semitones), tone(800))
    assert len(result) == SAMPLE_RATE
    assert pitch_of(result) == pytest.approx(800 * 2 ** (semitones / 12), rel=0.01)


def test_band_attenuates_outside():
    band = BandLimit(300, 300, 3000, 3000)
    assert decibel(run(band, tone(1000)), tone(1000)) == pytest.approx(0, abs=0.2)
    assert decibel(run(band, tone(100)), tone(100)) < -30
    assert decibel(run(band, tone(7000)), tone(7000)) < -25
    assert decibel(run(band, tone(300)), tone(300)) == pytest.approx(-3, abs=0.3)


def test_low_sample_rate_leaves_nothing_above_half_of_it():
    low = LowSampleRate([8000])
    assert decibel(run(low, tone(1000)), tone(1000)) == pytest.approx(0, abs=0.2)
    assert decibel(run(low, tone(5000)), tone(5000)) < -40
    assert len(run(low, tone(3000, 0.50031))) == len(tone(3000, 0.50031))


def test_room_preserves_level_and_is_causal():
    click = torch.zeros(SAMPLE_RATE)
    click[4000] = 1
    result = run(RoomResponse(), click)
    assert not result[:4000].abs().gt(1e-5).any()
    assert result.abs().argmax() == 4000
    assert result[4001:9000].abs().max() > 1e-3
    assert decibel(result, click) == pytest.approx(0, abs=1e-3)


def test_a_silent_room_response_is_named(tmp_path):
    soundfile.write(tmp_path / "quiet.wav", torch.zeros(100).numpy(), SAMPLE_RATE)
    with pytest.raises(ValueError, match=r"quiet\.wav: a room response of silence"):
        run(RoomResponse(str(tmp_path)), tone(440))


def test_without_a_manifest_no_noise_is_added():
    batch = {"audio": tone(440)[None], "audio_length": torch.tensor([SAMPLE_RATE])}
    assert AddNoise(p=1.0)(seed=torch.tensor([0]), **batch) == {}


def test_unusable_manifests_raise(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        run(AddNoise("none.jsonl"), tone(440))
    (tmp_path / "empty.jsonl").write_text("")
    for transform in (AddNoise, RoomResponse):
        with pytest.raises(ValueError, match=r"empty\.jsonl: lists no recordings"):
            run(transform(str(tmp_path / "empty.jsonl")), tone(440))
