"""Synthesis of the demo corpus: speech and noise recordings."""

import json
import logging
import math
import os
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm.auto import tqdm

from src.datasets.demo.grammar import TEMPLATES, TEST_TEMPLATES, sentences
from src.datasets.demo.noise import make_noises
from src.datasets.demo.voices import Speaker, speakers
from src.utils.espeak import SAMPLE_RATE as ESPEAK_SAMPLE_RATE
from src.utils.options import check_number, check_whole

logger = logging.getLogger(__name__)

SAMPLE_RATE = 16000  # Hz
SECONDS_EACH = 2.8  # typical duration of a sentence
SPLITS = ("train", "val", "test")
JITTER = 6  # largest deviation of pitch, and of words per minute, between utterances
NOTE = "corpus.json"
MAX_HOURS = 100  # of a split; the number of sentences is limited


@dataclass(frozen=True)
class Recipe:
    """The parameters of a corpus.

    Args:
        hours: of speech in train, val and test.
        voices: maximum number of voices of each split; None: all.
        noises: number of noise recordings, of ten seconds each.
        seed: of the random generators.
        version: incremented when the code generates different audio.

    Raises:
        ValueError: a value is not allowed.
    """

    hours: tuple[float, float, float] = (4.0, 0.2, 0.3)
    voices: int | None = None
    noises: int = 24
    seed: int = 7
    version: int = 4

    def __post_init__(self) -> None:
        for hours in self.hours:
            check_number("demo speech: hours", hours, high=MAX_HOURS)
        check_whole("demo speech: voices", self.voices, optional=True)
        check_whole("demo speech: noises", self.noises, low=0)


def make_demo_speech(
    folder: Path, recipe: Recipe | None = None, workers: int | None = None
) -> Path:
    """Synthesise the demo corpus, unless it exists.

    It is written to a temporary folder beside the final one, which is renamed when complete. If
    another process finished first, its corpus is used.

    Args:
        folder: to contain train.jsonl, val.jsonl, test.jsonl, noise.jsonl and the audio.
        recipe: None accepts any existing corpus, and otherwise makes the default one.
        workers: voices synthesised in parallel; None: number of CPU cores.

    Returns:
        The folder.

    Raises:
        ValueError: the folder contains something else, eSpeak NG fails, or a value is not allowed.
    """
    check_whole("demo speech: workers", workers, high=256, optional=True)
    if is_complete(folder, recipe):
        return folder
    recipe = recipe or Recipe()
    folder.parent.mkdir(parents=True, exist_ok=True)
    logger.info("Synthesising the demo speech in %s (once, about a minute).", folder)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        work = Path(beside) / "corpus"
        counts = {split: make_split(work, split, recipe, workers) for split in SPLITS}
        make_noises(work, recipe.noises, recipe.seed)
        note = {"recipe": asdict(recipe), "splits": counts}
        (work / NOTE).write_text(json.dumps(note, indent=2) + "\n")
        try:
            work.rename(folder)
        except OSError:
            if not is_complete(folder, recipe):
                raise
    return folder


def is_complete(folder: Path, recipe: Recipe | None) -> bool:
    """Whether a folder contains the demo corpus.

    Args:
        folder: of the corpus.
        recipe: that it must have been made with; None: any.

    Raises:
        ValueError: it contains something else, or a corpus of another recipe.
    """
    if not folder.exists():
        return False
    try:
        made_from = json.loads((folder / NOTE).read_text())["recipe"]
    except (OSError, ValueError, KeyError):
        raise ValueError(
            f"{folder}: exists but contains no demo speech; choose another folder."
        ) from None
    wanted = json.loads(json.dumps(asdict(recipe or Recipe())))
    if made_from["version"] != wanted["version"] or (recipe and made_from != wanted):
        raise ValueError(f"{folder}: contains demo speech of another recipe; remove the folder.")
    return True


def make_split(folder: Path, split: str, recipe: Recipe, workers: int | None) -> dict:
    """Synthesise one split; returns its numbers of voices, utterances and hours."""
    cast = speakers(split, recipe.seed, recipe.voices)
    count = max(len(cast), round(recipe.hours[SPLITS.index(split)] * 3600 / SECONDS_EACH))
    texts = split_sentences(split, recipe)[:count]
    parts = [texts[i :: len(cast)] for i in range(len(cast))]
    rows: list[dict] = []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = zip(cast, parts, strict=True)
        spoken = pool.map(lambda job: speak(folder, job[0], job[1], recipe.seed), jobs)
        for own in tqdm(spoken, total=len(cast), desc=f"demo speech, {split}", unit="voice"):
            rows += own
    write_rows(folder / f"{split}.jsonl", rows)
    hours = sum(row["duration"] for row in rows) / 3600
    return {"voices": len(cast), "utterances": len(rows), "hours": round(hours, 3)}


def split_sentences(split: str, recipe: Recipe) -> list[str]:
    """The sentences of a split; no sentence is in two splits."""
    taken: set[str] = set()
    by_split: dict[str, list[str]] = {}
    for name in ("test", "val", "train"):
        rng = random.Random(f"{recipe.seed}/sentences/{name}")
        count = 64 + round(recipe.hours[SPLITS.index(name)] * 3600 / SECONDS_EACH)
        own = TEMPLATES + TEST_TEMPLATES if name == "test" else TEMPLATES
        by_split[name] = sentences(count, own, rng, taken)
    return by_split[split]


def speak(folder: Path, speaker: Speaker, texts: list[str], seed: int) -> list[dict]:
    """Synthesise the sentences of a speaker to FLAC files; returns the rows of the manifest."""
    rng = random.Random(f"{seed}/{speaker.name}")
    utterances = [
        {
            "text": text,
            "pitch": speaker.pitch + rng.randint(-JITTER, JITTER),
            "range": speaker.range,
            "rate": speaker.rate + rng.randint(-JITTER, JITTER),
        }
        for text in texts
    ]
    rows = []
    for i, samples in enumerate(run_espeak(speaker.voice, utterances)):
        name = f"audio/{speaker.name}/{speaker.name}_{i:04d}.flac"
        duration = write_speech(folder / name, samples, speaker.level)
        rows.append({"audio_filepath": name, "duration": duration, "text": texts[i]})
    return [row | {"speaker": speaker.name, "lang": "en"} for row in rows]


def run_espeak(voice: str, utterances: list[dict]) -> list[np.ndarray]:
    """Speech of each utterance as int16 samples [T] at 22,050 Hz, from eSpeak NG in a subprocess.

    Args:
        voice: of eSpeak NG, e.g. `en-us+f3`.
        utterances: {text, pitch, range, rate} each.

    Raises:
        ValueError: it failed or crashed; names the voice and the error.
    """
    with tempfile.TemporaryDirectory() as scratch:
        job, out = Path(scratch) / "job.json", Path(scratch) / "speech.npz"
        job.write_text(json.dumps({"voice": voice, "utterances": utterances}))
        command = [sys.executable, "-m", "src.datasets.demo.espeak", str(job), str(out)]
        root = Path(__file__).parents[3]
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
        if done.returncode != 0:
            messages = done.stderr.strip().splitlines() or ["no message"]
            raise ValueError(
                f"eSpeak NG failed for the voice '{voice}', exit code {done.returncode}: "
                f"{messages[-1]}"
            )
        with np.load(out, allow_pickle=False) as speech:
            return [speech[str(i)] for i in range(len(utterances))]


def write_speech(path: Path, samples: np.ndarray, level: float) -> float:
    """Write samples of eSpeak NG as a FLAC file; returns the duration in seconds.

    Args:
        path: to write, 16 kHz, 16 bits.
        samples: int16 [T] at 22,050 Hz.
        level: RMS in dBFS, reduced if the audio would clip.
    """
    audio = resample_espeak(samples / 32768)
    audio *= 10 ** (level / 20) / np.sqrt(np.mean(audio**2))
    audio /= max(1.0, np.abs(audio).max() / 0.99)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, SAMPLE_RATE, subtype="PCM_16")
    return len(audio) / SAMPLE_RATE


def resample_espeak(audio: np.ndarray) -> np.ndarray:
    """Resample audio [T] from 22,050 Hz to 16 kHz, by truncating its spectrum at 8 kHz.

    Computed in float64 and a single thread, so that the files don't depend on the number of cores,
    as float32 sums in torch do.
    """
    common = math.gcd(SAMPLE_RATE, ESPEAK_SAMPLE_RATE)
    size = math.ceil(len(audio) * common / ESPEAK_SAMPLE_RATE) * SAMPLE_RATE // common
    spectrum = np.fft.rfft(audio, size * ESPEAK_SAMPLE_RATE // SAMPLE_RATE)[: size // 2 + 1]
    whole = np.fft.irfft(spectrum, size) * SAMPLE_RATE / ESPEAK_SAMPLE_RATE
    return whole[: round(len(audio) * SAMPLE_RATE / ESPEAK_SAMPLE_RATE)]


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write a manifest."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
