"""Noise recordings for the demo speech: coloured, mechanical, impulsive, and babble."""

import json
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16000  # Hz
SECONDS = 10
SAMPLES = SAMPLE_RATE * SECONDS
LEVEL = 0.05  # RMS


def coloured(rng: np.random.Generator, slope: float) -> np.ndarray:
    """Noise [T] with a power spectrum of frequency^-slope: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(SAMPLES))
    frequency = np.fft.rfftfreq(SAMPLES, 1 / SAMPLE_RATE).clip(min=20)
    return np.fft.irfft(spectrum * frequency ** (-slope / 2), SAMPLES)


def hum(rng: np.random.Generator) -> np.ndarray:
    """Mains hum [T]: 50 or 60 Hz and its harmonics, with a little noise."""
    time = np.arange(SAMPLES) / SAMPLE_RATE
    base = rng.choice([50.0, 60.0])
    tones = [np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6)) / k for k in range(1, 12)]
    return np.sum(tones, axis=0) + 0.1 * rng.standard_normal(SAMPLES)


def clicks(rng: np.random.Generator) -> np.ndarray:
    """Short bursts of noise at random times [T], like typing or rain."""
    audio = 0.01 * rng.standard_normal(SAMPLES)
    burst = np.exp(-np.arange(400) / 60)
    for start in rng.integers(0, SAMPLES - 400, size=int(rng.integers(40, 200))):
        audio[start : start + 400] += burst * rng.standard_normal(400) * rng.uniform(0.3, 1)
    return audio


def gusts(rng: np.random.Generator) -> np.ndarray:
    """Pink noise [T] of slowly varying level, like wind or traffic."""
    time = np.arange(SAMPLES) / SAMPLE_RATE
    swell = 1 + 0.9 * np.sin(2 * np.pi * rng.uniform(0.1, 0.8) * time + rng.uniform(0, 6))
    return coloured(rng, rng.uniform(0.8, 1.6)) * swell


def babble(rng: np.random.Generator, speech: list[Path]) -> np.ndarray:
    """Babble noise [T]: the sum of 40 utterances of the training split."""
    audio = np.zeros(SAMPLES)
    for i in rng.integers(0, len(speech), size=40):
        voice, _ = soundfile.read(speech[i])
        start = int(rng.integers(0, SAMPLES))
        piece = voice[: SAMPLES - start]
        audio[start : start + len(piece)] += piece
    return audio


def make_noises(folder: Path, count: int, seed: int) -> None:
    """Write noise recordings of ten seconds and their manifest, noise.jsonl.

    Args:
        folder: of the corpus, with train.jsonl.
        count: number of recordings; the kinds of noise alternate.
        seed: of the random generators.
    """
    with (folder / "train.jsonl").open(encoding="utf-8") as file:
        speech = [folder / json.loads(line)["audio_filepath"] for line in file]
    kinds = {
        "white": lambda rng: coloured(rng, 0.0),
        "pink": lambda rng: coloured(rng, 1.0),
        "brown": lambda rng: coloured(rng, 2.0),
        "babble": lambda rng: babble(rng, speech),
        "gusts": gusts,
        "hum": hum,
        "clicks": clicks,
    }
    (folder / "noise").mkdir()
    rows = []
    for i in range(count):
        kind = list(kinds)[i % len(kinds)]
        audio = kinds[kind](np.random.default_rng([seed, i]))
        audio = audio * LEVEL / np.sqrt(np.mean(audio**2))
        name = f"noise/{kind}_{i:02d}.flac"
        soundfile.write(folder / name, audio.clip(-0.99, 0.99), SAMPLE_RATE, subtype="PCM_16")
        rows.append({"audio_filepath": name, "duration": float(SECONDS)})
    (folder / "noise.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
