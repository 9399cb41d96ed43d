import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from src.datasets.demo.noise import SAMPLE_RATE, coloured, hum, make_noises


def power(audio: np.ndarray, low: float, high: float) -> float:
    """Mean power between two frequencies, in dB."""
    spectrum = np.square(np.abs(np.fft.rfft(audio)))
    frequency = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    return float(10 * np.log10(spectrum[(frequency >= low) & (frequency < high)].mean()))


@pytest.mark.parametrize(("slope", "fall"), [(0.0, 0.0), (1.0, 3.01), (2.0, 6.02)])
def test_slope_of_coloured_noise(slope: float, fall: float) -> None:
    audio = coloured(np.random.default_rng(0), slope)
    octaves = [power(audio, low, 2 * low) for low in (250, 500, 1000, 2000, 4000)]
    assert -np.diff(octaves) == pytest.approx(fall, abs=0.3)


def test_hum_has_harmonics_of_mains() -> None:
    audio = hum(np.random.default_rng(0))
    base = max((50, 60), key=lambda base: power(audio, base - 1, base + 1))
    assert power(audio, 2 * base - 1, 2 * base + 1) > power(audio, 2.4 * base, 2.6 * base) + 20


def test_duration_and_level(corpus: Path) -> None:
    rows = [json.loads(line) for line in (corpus / "noise.jsonl").read_text().splitlines()]
    assert len(rows) == 7
    for row in rows:
        assert set(row) == {"audio_filepath", "duration"}
        audio, rate = soundfile.read(corpus / row["audio_filepath"])
        assert (rate, audio.shape, row["duration"]) == (16000, (160000,), 10.0)
        assert np.sqrt(np.square(audio).mean()) == pytest.approx(0.05, rel=0.05)


def test_depends_on_seed(corpus: Path, tmp_path: Path) -> None:
    rows = (corpus / "train.jsonl").read_text().splitlines()
    for row in rows:
        old = Path(json.loads(row)["audio_filepath"])
        (tmp_path / old).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / old).symlink_to(corpus / old)
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    make_noises(tmp_path, count=7, seed=99)
    names = sorted(path.name for path in (tmp_path / "noise").iterdir())
    assert names == sorted(path.name for path in (corpus / "noise").iterdir())
    for name in names:
        other = soundfile.read(corpus / "noise" / name)[0]
        assert not np.array_equal(soundfile.read(tmp_path / "noise" / name)[0], other)
