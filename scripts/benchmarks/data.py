"""Reading audio in batches: from files and from shards, beside webdataset."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import soundfile
import torch

from scripts.benchmarks.measuring import OURS, Case, Options, Step, installed, missing
from src.datasets.base_dataset import BaseDataset
from src.datasets.collate import collate
from src.datasets.manifest import Manifest, to_line
from src.datasets.shards import MANIFEST, ShardOptions, write_shards
from src.datasets.workers import iterate

RATE = 16000
BATCH = 16  # utterances


def make_corpus(folder: Path, count: int, seconds: float) -> Path:
    """Write FLAC files of noise and their manifest; returns its path."""
    draw = torch.Generator().manual_seed(0)
    rows = []
    for i in range(count):
        name = f"{i:06}.flac"
        soundfile.write(
            folder / name, 0.1 * torch.randn(round(seconds * RATE), generator=draw), RATE
        )
        rows.append({"audio_filepath": name, "duration": seconds})
    path = folder / "manifest.jsonl"
    path.write_text("".join(map(to_line, rows)), encoding="utf-8")
    return path


def read_all(manifest: Path) -> Step:
    """A function that reads all utterances of a manifest in batches, in this process."""
    dataset = BaseDataset(Manifest(manifest))
    keys = [[(0, i) for i in range(at, min(at + BATCH, len(dataset)))] for at in starts(dataset)]

    def step() -> None:
        for _ in iterate(dataset, 0, 0, batch_sampler=keys, collate_fn=collate):
            pass

    return step


def starts(dataset: Any) -> range:
    """Index of the first utterance of each batch."""
    return range(0, len(dataset), BATCH)


def read_webdataset(shards: list[str]) -> Step:
    """A function that reads the same utterances by webdataset."""
    import webdataset

    def item(sample: dict[str, Any]) -> dict[str, Any]:
        samples, _ = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
        return {"id": sample["__key__"], "audio": torch.from_numpy(samples)}

    def step() -> None:
        data = webdataset.WebDataset(shards, shardshuffle=False).map(item)
        for _ in data.batched(BATCH, collation_fn=collate):
            pass

    return step


def cases(options: Options) -> Iterator[Case]:
    """All utterances of a small corpus once, read in this process with warm caches."""
    count, seconds = (20, 0.5) if options.quick else (512, 8.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = make_corpus(folder, count, seconds)
        shards = folder / "shards"
        write_shards(Manifest(manifest), shards, ShardOptions())
        theirs: dict[str, Step] = {}
        note = missing("webdataset")
        if installed("webdataset"):
            tars = sorted(map(str, shards.glob("*.tar")))
            theirs, note = {"webdataset": read_webdataset(tars)}, ""
        title = f"{count} x {seconds:g} s of FLAC"
        yield Case(f"Files, {title}", {OURS: read_all(manifest), **theirs}, note)
        yield Case(f"Shards, {title}", {OURS: read_all(shards / MANIFEST), **theirs}, note)
