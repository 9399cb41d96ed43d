"""Base class of datasets: items of a manifest."""

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from src.datasets.filters import Rule, duration_rules, keep_rows, rows_of
from src.datasets.manifest import Manifest, Row, safe_name
from src.transforms.chain import Chain, apply_to_item
from src.utils.audio import read_audio
from src.utils.byte_ranges import Remote
from src.utils.options import check_choice, check_number, check_whole
from src.utils.random import item_seed

Item = dict[str, Any]


class BaseDataset(Dataset):
    """Items {id, path, seed, audio [T], speaker?} of a manifest.

    `dataset[i]` is the item of epoch 0, `dataset[epoch, i]` that of another epoch; its random
    numbers depend only on (seed, epoch, i). Subclasses add keys of their task in `make_item`, drop
    rows by `rules`, and set `has_targets`.

    Args:
        manifest: the rows.
        sample_rate: of the items' audio, in Hz.
        instance_transforms: applied to each item.
        seed: of all randomness.
        min_duration, max_duration: other rows are dropped, in seconds; None: no bound.
        limit: maximum number of rows, the first ones; None: all.
        minutes: total duration of a fixed random subset of the rows; a smaller subset is part of a
            larger one. None: all.
        same_epochs: whether every epoch equals the first one.
        on_error: `raise`, or `skip` to skip and count files that can't be read.
        remote: how shards are read over the network; None: with the defaults.

    Attributes:
        has_targets: whether every item has the targets that loss and metrics need.

    Raises:
        ValueError: no rows are left, or an option has an invalid value.
    """

    has_targets = True

    def __init__(
        self,
        manifest: Manifest,
        *,
        sample_rate: int = 16000,
        instance_transforms: Chain | None = None,
        seed: int = 0,
        min_duration: float | None = None,
        max_duration: float | None = None,
        limit: int | None = None,
        minutes: float | None = None,
        same_epochs: bool = False,
        on_error: str = "raise",
        remote: Remote | None = None,
    ):
        check_number("min_duration", min_duration, inclusive=True, optional=True)
        check_number("max_duration", max_duration, optional=True)
        check_whole("limit", limit, optional=True)
        check_number("minutes", minutes, optional=True)
        check_choice("same_epochs", same_epochs, (True, False))
        check_choice("on_error", on_error, ("raise", "skip"))
        self.sample_rate, self.seed = sample_rate, seed
        self.instance_transforms = instance_transforms
        self.min_duration, self.max_duration = min_duration, max_duration
        self.same_epochs, self.on_error = same_epochs, on_error
        manifest.remote = remote
        if limit is not None:
            manifest = manifest.select(np.arange(min(limit, len(manifest))))
        if minutes is not None:
            manifest = manifest.select(rows_of(manifest.durations, 60 * minutes))
        manifest = self.prepare(manifest)
        self.manifest = keep_rows(manifest, self.rules(manifest))
        self.manifest.release()

    def prepare(self, manifest: Manifest) -> Manifest:
        """The rows that rules and items are made of; here as they are."""
        return manifest

    def rules(self, manifest: Manifest) -> list[Rule]:
        """Which rows are kept, and why the others are dropped."""
        return duration_rules(manifest.durations, self.min_duration, self.max_duration)

    @property
    def durations(self) -> np.ndarray:
        """Durations of the items in seconds, [N]."""
        return self.manifest.durations

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        epoch = 0 if self.same_epochs else epoch
        row = self.manifest[index]
        try:
            item = self.make_item(row, self.item_id(row, index), item_seed(self.seed, epoch, index))
        except (ValueError, FileNotFoundError) as error:
            if self.on_error == "skip":
                return {"error": str(error)}
            raise ValueError(f"{self.manifest.place(index)}: {error}") from None
        if self.instance_transforms is not None:
            item = apply_to_item(self.instance_transforms, item)
        return item

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """The item of a row before the transforms."""
        item: Item = {"id": id, "path": str(row.audio_filepath), "seed": seed}
        item["audio"] = self.read(row)
        if row.speaker is not None:
            item["speaker"] = row.speaker
        return item

    def read(self, row: Row) -> Any:
        """The row's audio [T] at the dataset's sample rate."""
        return read_audio(row.audio_filepath, self.sample_rate, row.offset, row.duration)

    def item_id(self, row: Row, index: int) -> str:
        """The name of the file, with the line added where other rows have the same name."""
        name = safe_name(row.audio_filepath.name)
        return f"{name}@{self.manifest.lines[index]}" if self.manifest.repeated[index] else name
