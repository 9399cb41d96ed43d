"""Memory, WER and word times of long recordings: python scripts/measure_long_recordings.py RUN.

Joins utterances of the demo corpus with pauses of 0.3 to 1.5 s to ten minutes and to an hour, and
compares with the same utterances alone. The words were laid where eSpeak NG says that it starts
each of them when it speaks the sentence again, and an utterance ends where its file does.
"""

import argparse
import ctypes
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import jiwer
import numpy as np
import soundfile
import torch
from omegaconf import OmegaConf

from src.datasets.demo.espeak import Espeak
from src.datasets.demo.speech import JITTER, Recipe
from src.datasets.demo.voices import speakers
from src.metrics.wer import word_error_rate
from src.run import load_run
from src.utils.entry import run_command
from src.utils.files import read_jsonl

SAMPLE_RATE = 16000
WORD, END = 1, 0  # types of espeak_EVENT
PAUSES = (0.3, 1.5)  # seconds
LEVELS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.01)  # of confidence
LIMIT = 0.08  # seconds
NOISE = 1e-4  # of the pauses, -80 dBFS


class Event(ctypes.Structure):
    """The beginning of `espeak_EVENT` in speak_lib.h, and its size."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


class TimedEspeak(Espeak):
    """A voice that tells when it starts each word."""

    def receive(self, samples, count: int, events) -> int:
        """Callback of the library: store audio, and (text position, milliseconds) of the words."""
        if events:
            event = ctypes.cast(events, ctypes.POINTER(Event))
            for i in range(100):
                if event[i].type == END:
                    break
                if event[i].type == WORD:
                    self.words.append((event[i].text_position, event[i].audio_position))
        return super().receive(samples, count, events)

    def starts(self, utterance: dict) -> list[float]:
        """When each word that eSpeak NG counts in an utterance starts, in seconds."""
        self.words: list[tuple[int, int]] = []
        pitch, range, rate = (utterance[key] for key in ("pitch", "range", "rate"))
        self.synthesize(utterance["text"], pitch, range, rate)
        return [milliseconds / 1000 for _, milliseconds in self.words]


def word_starts(folder: Path, split: str) -> dict[str, list[float]]:
    """For each file of a split of the demo corpus when its words start, in seconds.

    Args:
        folder: of the corpus.
        split: `train`, `val` or `test`.
    """
    recipe = Recipe(**json.loads((folder / "corpus.json").read_text())["recipe"])
    cast = speakers(split, recipe.seed, recipe.voices)
    starts = {}
    rows = read_jsonl(folder / f"{split}.jsonl")
    for speaker in cast:
        own = [row for row in rows if row["speaker"] == speaker.name]
        rng = random.Random(f"{recipe.seed}/{speaker.name}")
        utterances = [
            {
                "text": row["text"],
                "pitch": speaker.pitch + rng.randint(-JITTER, JITTER),
                "range": speaker.range,
                "rate": speaker.rate + rng.randint(-JITTER, JITTER),
            }
            for row in own
        ]
        job = json.dumps({"voice": speaker.voice, "utterances": utterances})
        told = run_self("--starts", input=job)
        for row, times in zip(own, told, strict=True):
            starts[row["audio_filepath"]] = times
    return starts


def print_starts() -> None:
    """Print for each utterance of a job, read from stdin, when its words start."""
    job = json.load(sys.stdin)
    espeak = TimedEspeak(job["voice"])  # in a process of its own, because the library keeps state
    print(json.dumps([espeak.starts(utterance) for utterance in job["utterances"]]))


def run_self(*arguments: object, input: str | None = None) -> Any:
    """What this script prints as JSON in another process."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(command)}: {done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def join_utterances(rows: list[dict], folder: Path, path: Path, seconds: float) -> list[dict]:
    """Write utterances with pauses until they last so long; each of them with its start.

    Args:
        rows: of the manifest, used again and again, shuffled each time.
        folder: of the corpus.
        path: to write, 16 bits.
        seconds: at least so long.
    """
    rng, laid, position = np.random.default_rng(0), [], 0
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, subtype="PCM_16") as file:
        while position < seconds * SAMPLE_RATE:
            for i in rng.permutation(len(rows)):
                audio, _ = soundfile.read(folder / rows[i]["audio_filepath"])
                pause = np.zeros(round(rng.uniform(*PAUSES) * SAMPLE_RATE))
                both = np.concatenate([pause, audio])
                file.write(np.clip(both + NOISE * rng.standard_normal(len(both)), -1, 1))
                start = (position + len(pause)) / SAMPLE_RATE
                position += len(both)
                laid.append(rows[i] | {"start": start, "end": position / SAMPLE_RATE})
                if position >= seconds * SAMPLE_RATE:
                    break
    return laid


def print_words(run: str, path: str) -> None:
    """Recognise a recording and print its words, the peak memory in MiB, and the seconds taken."""
    torch.set_num_threads(1)
    changes = OmegaConf.create({"task": {"word_times": True}})
    transcribe = load_run(run, device="cpu", changes=changes)
    begin = time.monotonic()
    words = transcribe(path)
    seconds = time.monotonic() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([[asdict(word) for word in words], memory, seconds]))


def matched(
    laid: list[dict], starts: dict[str, list[float]], words: list[dict]
) -> tuple[np.ndarray, np.ndarray]:
    """Laid and recognised times of the words that were recognised correctly.

    A word was laid from where it starts to where the next one does, the last of an utterance to
    the end of the utterance.

    Returns:
        [N, 6]: laid start and end, recognised start and end, and whether the word is the first and
        the last one of its utterance. Also for every recognised word its confidence and whether it
        is correct, [M, 2].
    """
    true: list[tuple[str, tuple[float, float, bool, bool] | None]] = []
    for row in laid:
        times, texts = starts[row["audio_filepath"]], row["text"].split()
        if len(times) != len(texts):  # eSpeak NG takes some words together
            true += [(text, None) for text in texts]
            continue
        limits = [*(row["start"] + at for at in times), row["end"]]
        for k, text in enumerate(texts):
            times_of = (limits[k], limits[k + 1], k == 0, k == len(texts) - 1)
            true.append((text, times_of))
    reference, hypothesis = " ".join(text for text, _ in true), " ".join(w["text"] for w in words)
    pairs: list[tuple[float, ...]] = []
    correct = np.zeros(len(words))
    for chunk in jiwer.process_words(reference, hypothesis).alignments[0]:
        if chunk.type != "equal":
            continue
        count = chunk.ref_end_idx - chunk.ref_start_idx
        for k in range(count):
            at, word = true[chunk.ref_start_idx + k][1], words[chunk.hyp_start_idx + k]
            correct[chunk.hyp_start_idx + k] = 1
            if at is not None:
                pairs.append((at[0], at[1], word["start"], word["end"], at[2], at[3]))
    confidence = np.array([word["confidence"] for word in words])
    return np.array(pairs), np.stack([confidence, correct], 1)


def report_times(pairs: np.ndarray) -> None:
    """Print how far the recognised times are from where the words were laid."""
    first, last = pairs[:, 4] == 1, pairs[:, 5] == 1
    everything = np.ones(len(pairs), dtype=bool)
    for name, column, of in (
        ("start of an utterance's first word", 0, first),
        ("end of an utterance's last word", 1, last),
        ("start of any word", 0, everything),
        ("end of any word", 1, everything),
    ):
        off = 1000 * (pairs[of, column + 2] - pairs[of, column])
        within = 100 * (abs(off) <= 1000 * LIMIT).mean()
        print(
            f"{name:<36} mean {off.mean():+6.1f} ms, median {np.median(off):+6.1f}, absolute "
            f"{abs(off).mean():5.1f}, 95 % below {np.quantile(abs(off), 0.95):5.0f}, largest "
            f"{abs(off).max():5.0f}; within {1000 * LIMIT:.0f} ms: {within:.1f} % of {of.sum()}"
        )


def report_confidence(scores: np.ndarray) -> None:
    """Print how much of the words of each confidence is correct."""
    confidence, correct = scores.T
    for low, high in zip(LEVELS, LEVELS[1:], strict=False):
        own = (confidence >= low) & (confidence < high)
        if own.any():
            print(
                f"confidence {low:.2f} to {high:.2f}: {100 * correct[own].mean():5.1f} % correct "
                f"of {own.sum()} words"
            )


def measure(arguments: argparse.Namespace) -> None:
    """Measure and print everything.

    Raises:
        ValueError: the run is no recogniser.
    """
    torch.set_num_threads(1)
    transcribe = load_run(arguments.run, device="cpu")
    if transcribe.task.name != "recognition":
        raise ValueError(f"{arguments.run}: no recogniser; only one gives words with times.")
    folder = Path(arguments.corpus)
    rows = read_jsonl(folder / "test.jsonl")
    starts = word_starts(folder, "test")
    alone = {row["audio_filepath"]: transcribe(folder / row["audio_filepath"]) for row in rows}
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        for minutes in arguments.minutes:
            path = Path(scratch) / f"{minutes:g}.wav"
            laid = join_utterances(rows, folder, path, 60 * minutes)
            words, memory, seconds = run_self("--words", arguments.run, path)
            peaks.append(memory)
            texts = [row["text"] for row in laid]
            apart = word_error_rate(texts, [alone[row["audio_filepath"]] for row in laid])
            joined = word_error_rate([" ".join(texts)], [" ".join(word["text"] for word in words)])
            print(
                f"\n{minutes:g} minutes, {len(laid)} utterances: WER {joined:.2f} %, alone "
                f"{apart:.2f} %; peak memory {memory:.0f} MiB ({memory / peaks[0]:.2f} of the "
                f"first); {seconds:.0f} s"
            )
            pairs, scores = matched(laid, starts, words)
            report_times(pairs)
            report_confidence(scores)


def main() -> None:
    """Read the command line."""
    if sys.argv[1:] == ["--starts"]:
        return print_starts()
    if sys.argv[1:2] == ["--words"]:
        return print_words(*sys.argv[2:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("--corpus", default="data/demo_speech", help="folder of the demo corpus")
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 60])
    arguments = parser.parse_args()
    return run_command(lambda: measure(arguments))


if __name__ == "__main__":
    main()
