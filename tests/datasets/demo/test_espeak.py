import re

import numpy as np
import pytest

from src.datasets.demo.speech import run_espeak

PLAIN = {"text": "my mother saw seven yellow lemons", "pitch": 50, "range": 30, "rate": 150}
RATE = 22050


def fundamental(samples: np.ndarray) -> float:
    """Median over 50 ms frames of the strongest period between 60 and 400 Hz, in Hz."""
    frames = samples[: len(samples) // 1100 * 1100].reshape(-1, 1100).astype(float)
    frames = frames[np.square(frames).mean(1) > 0.2 * np.square(frames).mean()]
    spectra = np.square(np.abs(np.fft.rfft(frames - frames.mean(1, keepdims=True), 4096)))
    periods = np.fft.irfft(spectra)[:, RATE // 400 : RATE // 60].argmax(1) + RATE // 400
    return float(RATE / np.median(periods))


@pytest.fixture(scope="module")
def spoken() -> list[np.ndarray]:
    others = [{"pitch": 20}, {"pitch": 80}, {"rate": 100}, {"rate": 200}, {}]
    return run_espeak("en-us+m3", [PLAIN | other for other in others])


def test_pitch_changes_fundamental_frequency(spoken: list[np.ndarray]) -> None:
    low, high = fundamental(spoken[0]), fundamental(spoken[1])
    assert 60 < low < high < 200
    assert high / low > 1.5


def test_higher_rate_is_shorter(spoken: list[np.ndarray]) -> None:
    assert len(spoken[2]) / len(spoken[3]) == pytest.approx(2, rel=0.2)


def test_variants_sound_different(spoken: list[np.ndarray]) -> None:
    [woman] = run_espeak("en-us+f3", [PLAIN])
    assert fundamental(woman) > 1.5 * fundamental(spoken[4])


@pytest.mark.parametrize("voice", ["en-gb+f2", "en-us+nonsense"])
def test_unknown_voice_raises(voice: str) -> None:
    with pytest.raises(ValueError, match=rf"'{re.escape(voice)}', exit code 1: .*has no voice"):
        run_espeak(voice, [PLAIN])
