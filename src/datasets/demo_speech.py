"""The demo corpus: synthetic speech and noises, made on first use."""

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

from src.datasets.demo_grammar import TEMPLATES, TEST_TEMPLATES, sentences
from src.datasets.demo_noise import make_noises
from src.datasets.demo_voices import Speaker, speakers
from src.datasets.espeak import SAMPLE_RATE as ESPEAK_RATE

logger = logging.getLogger(__name__)

RATE = 16000  # Hz
SECONDS_EACH = 2.8  # of a sentence, about
SPLITS = ("train", "val", "test")
JITTER = 6  # from utterance to utterance, of pitch and of words a minute
NOTE = "corpus.json"


@dataclass(frozen=True)
class Recipe:
    """What the corpus is made from; another recipe makes another corpus.

    Args:
        hours: of train, val and test.
        voices: the first so many of each split; None: all.
        noises: how many noises, of ten seconds each.
        seed: of all draws.
        version: changes whenever the code makes other audio.
    """

    hours: tuple[float, float, float] = (4.0, 0.2, 0.3)
    voices: int | None = None
    noises: int = 24
    seed: int = 7
    version: int = 4


def make_demo_speech(
    folder: Path, recipe: Recipe | None = None, workers: int | None = None
) -> Path:
    """Make the corpus, unless it is there.

    It is made in a folder beside and renamed when complete; if another process was faster, its
    corpus is taken.

    Args:
        folder: will hold train.jsonl, val.jsonl, test.jsonl, noise.jsonl and the audio.
        recipe: None takes a corpus that is there as it is, and makes the usual one if none is.
        workers: voices spoken at a time; None: one a core.

    Returns:
        The folder.

    Raises:
        ValueError: the folder holds something else, or eSpeak NG fails.
    """
    if is_complete(folder, recipe):
        return folder
    recipe = recipe or Recipe()
    folder.parent.mkdir(parents=True, exist_ok=True)
    logger.info("Making the demo speech in %s (once, about a minute).", folder)
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
    """Whether the corpus is there.

    Raises:
        ValueError: something else is.
    """
    if not folder.exists():
        return False
    try:
        made_from = json.loads((folder / NOTE).read_text())["recipe"]
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{folder}: exists but holds no demo speech; name another.") from None
    wanted = json.loads(json.dumps(asdict(recipe or Recipe())))
    if made_from["version"] != wanted["version"] or (recipe and made_from != wanted):
        raise ValueError(f"{folder}: holds demo speech of another recipe; remove the folder.")
    return True


def make_split(folder: Path, split: str, recipe: Recipe, workers: int | None) -> dict:
    """Speak one split; returns how much there is of what."""
    cast = speakers(split, recipe.seed, recipe.voices)
    count = max(len(cast), round(recipe.hours[SPLITS.index(split)] * 3600 / SECONDS_EACH))
    texts = split_sentences(split, recipe)[:count]
    parts = [texts[i :: len(cast)] for i in range(len(cast))]
    rows: list[dict] = []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = zip(cast, parts, strict=True)
        spoken = pool.map(lambda job: speak(folder, job[0], job[1], recipe.seed), jobs)
        for found in tqdm(spoken, total=len(cast), desc=f"demo speech, {split}", unit="voice"):
            rows += found
    write_rows(folder / f"{split}.jsonl", rows)
    hours = sum(row["duration"] for row in rows) / 3600
    return {"voices": len(cast), "utterances": len(rows), "hours": round(hours, 3)}


def split_sentences(split: str, recipe: Recipe) -> list[str]:
    """The sentences of a split; no other split has any of them."""
    taken: set[str] = set()
    found: dict[str, list[str]] = {}
    for name in ("test", "val", "train"):
        rng = random.Random(f"{recipe.seed}/sentences/{name}")
        count = 64 + round(recipe.hours[SPLITS.index(name)] * 3600 / SECONDS_EACH)
        own = TEMPLATES + TEST_TEMPLATES if name == "test" else TEMPLATES
        found[name] = sentences(count, own, rng, taken)
    return found[split]


def speak(folder: Path, speaker: Speaker, texts: list[str], seed: int) -> list[dict]:
    """Speak a speaker's sentences to FLAC files; returns the rows of the manifest."""
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
    """Speak in a child process.

    Raises:
        ValueError: it failed or crashed; names the voice and its last words.
    """
    with tempfile.TemporaryDirectory() as scratch:
        job, out = Path(scratch) / "job.json", Path(scratch) / "speech.npz"
        job.write_text(json.dumps({"voice": voice, "utterances": utterances}))
        command = [sys.executable, "-m", "src.datasets.espeak", str(job), str(out)]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
        if done.returncode != 0:
            words = done.stderr.strip().splitlines() or ["no message"]
            raise ValueError(
                f"eSpeak NG failed for the voice '{voice}', exit code {done.returncode}: "
                f"{words[-1]}"
            )
        with np.load(out, allow_pickle=False) as speech:
            return [speech[str(i)] for i in range(len(utterances))]


def write_speech(path: Path, samples: np.ndarray, level: float) -> float:
    """Write eSpeak NG's samples as 16 kHz FLAC at a level; returns the duration in seconds."""
    audio = to_rate(samples / 32768)
    audio *= 10 ** (level / 20) / np.sqrt(np.mean(audio**2))
    audio /= max(1.0, np.abs(audio).max() / 0.99)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, RATE, subtype="PCM_16")
    return len(audio) / RATE


def to_rate(audio: np.ndarray) -> np.ndarray:
    """Audio [T] at eSpeak NG's rate, converted to 16 kHz: its spectrum up to 8 kHz.

    In float64 and in one thread, so that the files are the same to the byte on any number of
    cores; torch's float32 sums depend on it.
    """
    common = math.gcd(RATE, ESPEAK_RATE)
    size = math.ceil(len(audio) * common / ESPEAK_RATE) * RATE // common
    spectrum = np.fft.rfft(audio, size * ESPEAK_RATE // RATE)[: size // 2 + 1]
    whole = np.fft.irfft(spectrum, size) * RATE / ESPEAK_RATE
    return whole[: round(len(audio) * RATE / ESPEAK_RATE)]


def write_rows(path: Path, rows: list[dict]) -> None:
    """Write a manifest."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
