"""Measure reading from shards beside single files and webdataset: scripts/benchmark_shards.py.

Makes a corpus of short FLAC files and shards of it in a temporary folder (--folder for another
disk), and reads all of it in batches: single files and shards in a random order of all utterances,
webdataset (if it is installed) shard after shard with a shuffle buffer of 1,000. All take turns in
each round, first cold (the files' pages are dropped from memory), then warm.
"""

import argparse
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.base_dataset import BaseDataset
from src.datasets.collate import collate
from src.datasets.manifest import Manifest, write_manifest
from src.datasets.shards import MANIFEST, ShardOptions, write_shards
from src.datasets.workers import iterate
from src.utils.columns import in_columns
from src.utils.entry import run_command
from src.utils.files import write_beside
from src.utils.options import check_number, check_whole

RATE = 16000
BATCH = 16  # utterances
SHUFFLED = 1000  # utterances in webdataset's buffer

Reader = Callable[[int], Iterable[dict[str, Any]]]  # seed -> batches


def make_corpus(folder: Path, count: int, seconds: float, shards: int) -> tuple[Path, Path]:
    """Write files of noise and shards of them; returns the paths of both manifests."""
    draw = torch.Generator().manual_seed(0)
    rows = []
    (folder / "files").mkdir()
    for i in range(count):
        samples = 0.03 * torch.randn(round(seconds * RATE), generator=draw)
        soundfile.write(folder / "files" / f"{i:06}.flac", samples, RATE)
        rows.append({"audio_filepath": f"files/{i:06}.flac", "duration": seconds})
    manifest, out = folder / "files.jsonl", folder / "shards"
    write_manifest(manifest, rows)
    size = sum(path.stat().st_size + 4 * 512 for path in (folder / "files").iterdir())
    write_shards(Manifest(manifest), out, ShardOptions(megabytes=size / shards / 1e6))
    return manifest, out / MANIFEST


def map_style(manifest: Path, workers: int) -> Reader:
    """Reads the utterances of a manifest in a random order."""
    dataset = BaseDataset(Manifest(manifest))

    def read(seed: int) -> Iterable[dict[str, Any]]:
        draw = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(dataset), generator=draw).tolist()
        keys = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        return iterate(dataset, workers, seed, batch_sampler=keys, collate_fn=collate)

    return read


def webdataset_style(shards: list[Path], workers: int) -> Reader:
    """Reads the utterances of shards by webdataset."""
    import webdataset

    def item(sample: dict[str, Any]) -> dict[str, Any]:
        samples, _ = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
        return {"id": sample["__key__"], "audio": torch.from_numpy(samples)}

    def read(seed: int) -> Iterable[dict[str, Any]]:
        data = webdataset.WebDataset([str(path) for path in shards], shardshuffle=100, seed=seed)
        batches = data.shuffle(SHUFFLED).map(item).batched(BATCH, collation_fn=collate)
        return DataLoader(batches, batch_size=None, num_workers=workers)

    return read


def drop_pages(folder: Path) -> None:
    """Drop the pages of all files below a folder from memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def speed(read: Reader, seed: int, count: int) -> float:
    """Utterances a second.

    Raises:
        ValueError: there were fewer or more utterances.
    """
    begin = time.perf_counter()
    found = sum(len(batch["id"]) for batch in read(seed))
    seconds = time.perf_counter() - begin
    if found != count:
        raise ValueError(f"{found} utterances were read, wanted {count}.")
    return count / seconds


def benchmark(arguments: argparse.Namespace) -> None:
    """Measure, print a table and write JSON.

    Raises:
        ValueError: an option has a bad value.
    """
    for key, low in (("samples", 1), ("shards", 1), ("rounds", 1), ("workers", 0)):
        check_whole(f"--{key}", getattr(arguments, key), low=low)
    check_number("--seconds", arguments.seconds, high=3600)
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        result = measure(folder, arguments)
    finally:
        shutil.rmtree(folder)
    if arguments.out is not None:
        with write_beside(arguments.out) as beside:
            beside.write_text(json.dumps(result, indent=2), encoding="utf-8")


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all readers in a folder and print the table; returns what was measured."""
    count, workers = arguments.samples, arguments.workers
    files, shards = make_corpus(folder, count, arguments.seconds, arguments.shards)
    tars = sorted(shards.parent.glob("*.tar"))
    os.sync()  # pages that aren't written yet can't be dropped
    readers = {"single files": map_style(files, workers), "shards": map_style(shards, workers)}
    if find_spec("webdataset") is not None:
        readers["webdataset"] = webdataset_style(tars, workers)
    speeds: dict[str, dict[str, list[float]]] = {name: {"cold": [], "warm": []} for name in readers}
    for seed in range(arguments.rounds):
        for state in ("cold", "warm"):
            for name, read in readers.items():
                if state == "cold":
                    drop_pages(folder)
                speeds[name][state].append(speed(read, seed, count))
    size = sum(path.stat().st_size for path in tars) / 1e6
    print(
        f"{count} utterances of {arguments.seconds:g} s (FLAC), {len(tars)} shards, {size:.0f} MB, "
        f"{workers} workers, {arguments.rounds} rounds; utterances a second, median and range"
    )
    lines = [["", "cold", "warm"]]
    lines += [[name, *map(shown, own.values())] for name, own in speeds.items()]
    print(in_columns(lines))
    if "webdataset" not in readers:
        print("(webdataset is not installed)")
    setting = {"samples": count, "seconds": arguments.seconds, "shards": len(tars)}
    return setting | {"workers": workers, "megabytes": size, "utterances_per_second": speeds}


def shown(values: list[float]) -> str:
    """Median and range of some speeds."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=4000, help="default: 4000")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each (default: 2)")
    parser.add_argument("--shards", type=int, default=1000, help="about so many (default: 1000)")
    parser.add_argument("--workers", type=int, default=2, help="processes that read (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--folder", type=Path, help="for the corpus (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    run_command(lambda: benchmark(arguments))


if __name__ == "__main__":
    main()
