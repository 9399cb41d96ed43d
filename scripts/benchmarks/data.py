"""Reading audio in batches: from shards, beside single files and webdataset, cold and warm."""

import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import soundfile
import torch

from scripts.benchmarks.measuring import OURS, Case, Options, Step, installed, missing
from src.datasets.base_dataset import BaseDataset
from src.datasets.loading.collate import collate
from src.datasets.loading.workers import iterate
from src.datasets.manifest import Manifest, write_manifest
from src.datasets.shards import MANIFEST, ShardOptions, write_shards

RATE = 16000
BATCH = 16  # utterances
SHUFFLED = 1000  # utterances in webdataset's buffer


def make_corpus(folder: Path, count: int, seconds: float, shards: int) -> tuple[Path, Path]:
    """Write FLAC files of noise, and about so many shards of them; paths of both manifests."""
    draw = torch.Generator().manual_seed(0)
    names = [f"{i:06}.flac" for i in range(count)]
    (folder / "files").mkdir()
    for name in names:
        samples = 0.1 * torch.randn(round(seconds * RATE), generator=draw)
        soundfile.write(folder / "files" / name, samples, RATE)
    manifest, out = folder / "files" / MANIFEST, folder / "shards"
    write_manifest(manifest, [{"audio_filepath": name, "duration": seconds} for name in names])
    size = sum(path.stat().st_size + 4 * 512 for path in (folder / "files").iterdir())
    write_shards(Manifest(manifest), out, ShardOptions(megabytes=size / shards / 1e6))
    return manifest, out / MANIFEST


def read_all(manifest: Path) -> Step:
    """A function that reads all utterances of a manifest in a random order, in this process."""
    dataset = BaseDataset(Manifest(manifest))
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()
    keys = [[(0, i) for i in order[at : at + BATCH]] for at in range(0, len(order), BATCH)]

    def step() -> None:
        for _ in iterate(dataset, 0, 0, batch_sampler=keys, collate_fn=collate):
            pass

    return step


def read_webdataset(shards: list[str]) -> Step:
    """A function that reads the same utterances by webdataset, shard after shard."""
    import webdataset

    def item(sample: dict[str, Any]) -> dict[str, Any]:
        samples, _ = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
        return {"id": sample["__key__"], "audio": torch.from_numpy(samples)}

    def step() -> None:
        data = webdataset.WebDataset(shards, shardshuffle=100, seed=0).shuffle(SHUFFLED).map(item)
        for _ in data.batched(BATCH, collation_fn=collate):
            pass

    return step


def cold(step: Step, folder: Path) -> Step:
    """A step before which the pages of a folder's files are dropped, in a small part of its time.

    Where the system can't drop them, the step is warm.
    """

    def dropped() -> None:
        for path in folder.iterdir():
            with path.open("rb") as file:
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        step()

    return dropped


def cases(options: Options) -> Iterator[Case]:
    """All utterances of a small corpus once, read in this process."""
    count, seconds, number = (20, 0.5, 3) if options.quick else (4000, 2.0, 1000)
    with tempfile.TemporaryDirectory() as name:
        files, shards = make_corpus(Path(name), count, seconds, number)
        tars = sorted(shards.parent.glob("*.tar"))
        steps = {OURS: read_all(shards), "single files": read_all(files)}
        if installed("webdataset"):
            steps["webdataset"] = read_webdataset([str(path) for path in tars])
        note = "" if "webdataset" in steps else missing("webdataset")
        if hasattr(os, "sync"):
            os.sync()  # pages that aren't written yet can't be dropped
        title = f"{count} x {seconds:g} s of FLAC in {len(tars)} shards"
        folders = {key: files.parent if key == "single files" else shards.parent for key in steps}
        chilled = {key: cold(step, folders[key]) for key, step in steps.items()}
        yield Case(f"Shards, cold: {title}", chilled, note)
        yield Case(f"Shards, warm: {title}", steps, note)
