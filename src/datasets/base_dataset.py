"""From a manifest to items: what every dataset shares."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from src.datasets.filters import (
    CountFrames,
    alignment_rules,
    all_have_text,
    duration_rules,
    keep_rows,
    rows_of,
    text_length_rules,
)
from src.datasets.manifest import Manifest, Row, safe_name
from src.text_encoder.base import TextEncoder
from src.transforms.chain import Chain, apply_to_item
from src.utils.audio import read_audio
from src.utils.random import item_seed

Item = dict[str, Any]


class BaseDataset(Dataset):
    """Items {id, path, seed, audio [T], speaker?, text?, tokens?} of a manifest.

    `dataset[i]` is the item of epoch 0, `dataset[epoch, i]` that of another epoch: all that is
    random about an item follows from (seed, epoch, i).

    Args:
        manifest: the rows.
        sample_rate: of the audio that comes out, in Hz.
        text_encoder: makes tokens of transcripts; without it there are no texts.
        instance_transforms: run on each item.
        seed: of all randomness.
        min_duration, max_duration: other rows are dropped, in seconds.
        min_text_length, max_text_length: other rows are dropped, in characters as they stand.
        count_frames: samples -> frames that the model puts out; rows that CTC can't align in so
            many frames are dropped.
        limit: only the first so many rows.
        minutes: only rows of so many minutes in all, drawn from all of them, always the same; those
            of fewer minutes are among those of more.
        same_epochs: every epoch is the first one again: nothing changes from one to the next.
        on_error: `raise`, or `skip` to leave out files that can't be read and count them.

    Attributes:
        has_targets: whether every item has what a loss and metrics need.

    Raises:
        ValueError: nothing is left, or an option has a bad value.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        sample_rate: int = 16000,
        text_encoder: TextEncoder | None = None,
        instance_transforms: Chain | None = None,
        seed: int = 0,
        min_duration: float | None = None,
        max_duration: float | None = None,
        min_text_length: int | None = None,
        max_text_length: int | None = None,
        count_frames: CountFrames | None = None,
        limit: int | None = None,
        minutes: float | None = None,
        same_epochs: bool = False,
        on_error: str = "raise",
    ):
        if on_error not in ("raise", "skip"):
            raise ValueError(f"dataset: on_error '{on_error}' is neither raise nor skip.")
        self.sample_rate, self.text_encoder = sample_rate, text_encoder
        self.instance_transforms, self.seed = instance_transforms, seed
        self.same_epochs, self.on_error = same_epochs, on_error
        if limit is not None:
            manifest = manifest.select(np.arange(min(limit, len(manifest))))
        if minutes is not None:
            manifest = manifest.select(rows_of(manifest.durations, 60 * minutes))
        rules = duration_rules(manifest.durations, min_duration, max_duration)
        rules += text_length_rules(manifest, min_text_length, max_text_length)
        if text_encoder is not None and count_frames is not None:
            rules += alignment_rules(manifest, text_encoder, count_frames, sample_rate)
        self.manifest = keep_rows(manifest, rules)
        if not len(self.manifest):
            raise ValueError(f"{manifest.path}: no utterances left of {len(manifest)}.")
        self.has_targets = text_encoder is None or all_have_text(self.manifest)

    @property
    def durations(self) -> np.ndarray:
        """In seconds, [N]."""
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
        if self.text_encoder is not None and row.text is not None:
            item["text"] = self.text_encoder.normalize(row.text)
            item["tokens"] = torch.tensor(self.text_encoder.encode(row.text), dtype=torch.int64)
        return item

    def read(self, row: Row) -> torch.Tensor:
        """The row's audio [T]."""
        return read_audio(row.audio_filepath, self.sample_rate, row.offset, row.duration)

    def item_id(self, row: Row, index: int) -> str:
        """The name of the file, with the line added where other rows have the same name."""
        name = safe_name(row.audio_filepath.name)
        return f"{name}@{self.manifest.lines[index]}" if self.manifest.repeated[index] else name
