"""Time and memory of a large manifest: python scripts/measure_manifest.py --rows 10000000.

Writes a manifest of so many utterances without audio, and opens it as training does: index, bounds
of durations and of texts, CTC's rule, batches of similar duration, worker processes; at first, a
second time, and in the middle of an epoch. Memory is that of all processes together, shared pages
counted once (PSS, so only on Linux); libraries and the index are pages of files, which the system
can drop.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
import torch

from src.datasets.loading.loaders import LoaderOptions
from src.datasets.loading.train import TrainLoader
from src.datasets.manifest import Manifest, Row, write_manifest
from src.datasets.recognition import RecognitionDataset
from src.text_encoder.characters import CharacterEncoder
from src.utils.columns import in_columns
from src.utils.entry import run_command
from src.utils.options import check_whole

PAUSE = 0.2  # seconds between two readings of the memory
HOP = 640  # samples of an output frame
BATCHES = 100  # that are read
SECONDS = (1.0, 20.0)  # durations
WORDS = ("the", "of", "and", "to", "in", "is", "you", "that", "it", "he", "was", "for", "this")


class WithoutAudio(RecognitionDataset):
    """The items of a manifest, with a few zeros for each recording."""

    def read(self, row: Row) -> torch.Tensor:
        """Zeros, [T]."""
        return torch.zeros(HOP)


class Memory(threading.Thread):
    """Reads the memory of this process and of its children until the end of a `with` block.

    Attributes:
        peaks: in bytes, of all, and without pages of files.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks, self.ended = (0, 0), threading.Event()

    def run(self) -> None:
        """Take a reading again and again."""
        while not self.ended.wait(PAUSE):
            self.update()

    def update(self) -> None:
        """Take a reading."""
        total, own = memory_of_all()
        self.peaks = max(self.peaks[0], total), max(self.peaks[1], own)

    def __enter__(self) -> "Memory":
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.update()
        self.ended.set()
        self.join()


def memory_of_all() -> tuple[int, int]:
    """Bytes of this process and its children, shared ones once: of all, and without files."""
    total, own = 0, 0
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        kinds = dict(line.split(":") for line in text.splitlines()[1:])
        kilobytes = {key: int(value.split()[0]) for key, value in kinds.items()}
        total += kilobytes["Pss"]
        own += kilobytes["Pss_Anon"] + kilobytes["Pss_Shmem"]
    return 1024 * total, 1024 * own


def rows(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of a manifest: most are short, with two words for each second."""
    draw = random.Random(seed)
    low, high = SECONDS
    for i in range(count):
        seconds = round(low + (high - low) * draw.random() ** 2, 2)
        text = " ".join(draw.choices(WORDS, k=1 + int(2 * seconds)))
        name = f"{i // 1000:05}/{i:09}.flac"
        yield {"audio_filepath": name, "duration": seconds, "text": text, "speaker": str(i % 5000)}


def open_and_read(path: Path, workers: int, epoch: int = 0, part: float = 0.0) -> dict[str, float]:
    """Open a manifest, read batches after a part of an epoch, and say what it took."""
    started, used = time.perf_counter(), cpu_seconds()
    with Memory() as memory:
        dataset = WithoutAudio(
            Manifest(path),
            text_encoder=CharacterEncoder(),
            count_frames=lambda samples: samples // HOP,
            min_duration=0.5,
            max_duration=19.5,
            min_text_length=2,
        )
        opened, opening = time.perf_counter(), cpu_seconds()
        loader = TrainLoader(dataset, LoaderOptions(max_seconds=240, num_workers=workers))
        taken = round(loader.steps(epoch) * part)
        loader.load_state_dict({"epoch": epoch, "batches": taken, "batches_in_step": 1})
        next(loader)
        first = time.perf_counter()
        for _ in range(BATCHES - 1):
            next(loader)
        loader.close()
    padding = loader.sampler.padding_fraction(epoch)  # of all batches, which training doesn't need
    return {
        "rows left": len(dataset),
        "opening (s)": opened - started,
        "its processor time (s)": opening - used,
        "then to the first batch (s)": first - opened,
        "memory of all processes (MB)": memory.peaks[0] / 1e6,
        "without pages of files (MB)": memory.peaks[1] / 1e6,
        "padding (%)": 100 * padding,
    }


def cpu_seconds() -> float:
    """Processor time of this process and its ended children."""
    times = psutil.Process().cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def measure(arguments: argparse.Namespace) -> None:
    """Write, open, print a table.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: an option has a bad value, or the system isn't Linux.
    """
    check_whole("--rows", arguments.rows, low=1000)
    check_whole("--workers", arguments.workers, low=0)
    if not Path("/proc/self/smaps_rollup").exists():
        raise ValueError("the memory of all processes can be measured on Linux only.")
    places = {"--folder": arguments.folder, "--out": arguments.out and arguments.out.parent}
    for key, place in places.items():
        if place is not None and not place.is_dir():
            raise FileNotFoundError(f"{key}: {place}: no such folder.")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "train.jsonl"
        write_manifest(path, rows(arguments.rows, seed=0))
        about = f"{arguments.rows:,} rows, {path.stat().st_size / 1e6:.0f} MB"
        print(f"{about}, {arguments.workers} worker processes")
        found = {
            "first time": open_and_read(path, arguments.workers),
            "second time": open_and_read(path, arguments.workers),
            "middle of epoch 3": open_and_read(path, arguments.workers, epoch=2, part=0.5),
        }
    table = [["", *found]]
    for key in found["first time"]:
        table.append([key, *(f"{values[key]:,.1f}" for values in found.values())])
    print(in_columns(table))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="default: ten million")
    parser.add_argument("--workers", type=int, default=8, help="worker processes (default: 8)")
    parser.add_argument("--folder", type=Path, help="for the manifest (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    run_command(lambda: measure(parser.parse_args()))


if __name__ == "__main__":
    main()
