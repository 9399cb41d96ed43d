"""Dataset for speech recognition: audio with text and tokens."""

from pathlib import Path

import torch

from src.datasets.base_dataset import BaseDataset, Item
from src.datasets.filters import (
    CountFrames,
    Rule,
    alignment_rules,
    check_all_or_none,
    clipping_rule,
    keep_rows,
    speaking_rate_rules,
    text_length_rules,
)
from src.datasets.manifest import Manifest, Row
from src.datasets.measuring import clipped_fractions, trim_silence
from src.datasets.speech_detection import SpeechDetector, build_detector
from src.text_encoder.base import TextEncoder
from src.transforms.chain import STAGES
from src.utils.audio import Recording, read_audio
from src.utils.options import check_number, check_whole


class RecognitionDataset(BaseDataset):
    """Items {id, path, seed, audio [T], speaker?, raw_text, text, tokens [L]} of a manifest.

    Without a text encoder the items have no text, as for pretraining. Where no row has a text the
    items can only be decoded. With `trim` they have `trimmed`, the seconds cut off their start.

    Args:
        manifest: the rows.
        text_encoder: normalises transcripts and makes tokens of them.
        min_text_length, max_text_length: other rows are dropped, in characters as they stand in
            the manifest; a row without text has 0. None: no bound.
        min_speaking_rate, max_speaking_rate: other rows are dropped, in such characters per second,
            after trimming. None: no bound.
        max_clipped: rows with a larger fraction of samples at full scale are dropped; None: none.
            All audio is read once to measure it, and the result kept beside the manifest.
        trim: cuts off the silence at both ends: `energy`, `silero` (needs `pip install silero-vad
            onnxruntime`) or a `SpeechDetector` with other values; None: nothing is cut off. All
            audio is read once, as for `max_clipped`. Durations, and with them the bounds above,
            batches and CTC's rule, are those of what is left.
        count_frames: samples -> output frames of the model; rows whose text CTC can't align to
            them are dropped. None: no rows are dropped.
        window_seconds: recordings longer than this are not read, but given as a `Recording`, of
            which the model's windows are read one by one; not of MP3s, whose length may not be
            known, nor of those in shards. None: all are read.
        options: of `BaseDataset`.

    Attributes:
        has_targets: False with a text encoder where no row has a text.

    Raises:
        ValueError: no rows are left, an option has a bad value, or with a text encoder some rows
            have a text and others don't.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        text_encoder: TextEncoder | None = None,
        min_text_length: int | None = None,
        max_text_length: int | None = None,
        min_speaking_rate: float | None = None,
        max_speaking_rate: float | None = None,
        max_clipped: float | None = None,
        trim: str | SpeechDetector | None = None,
        count_frames: CountFrames | None = None,
        window_seconds: float | None = None,
        **options,
    ):
        check_whole("min_text_length", min_text_length, low=0, optional=True)
        check_whole("max_text_length", max_text_length, low=0, optional=True)
        check_number("min_speaking_rate", min_speaking_rate, inclusive=True, optional=True)
        check_number("max_speaking_rate", max_speaking_rate, optional=True)
        check_number("max_clipped", max_clipped, high=1, inclusive=True, optional=True)
        self.speaking_rate = (min_speaking_rate, max_speaking_rate)
        self.max_clipped, self.detector = max_clipped, build_detector(trim)
        self.text_encoder, self.count_frames = text_encoder, count_frames
        self.text_length = (min_text_length, max_text_length)
        self.window_seconds = window_seconds
        super().__init__(manifest, **options)
        self.count_frames = None  # it knows the model, which isn't for data workers
        if text_encoder is not None:
            self.has_targets = check_all_or_none(self.manifest, self.manifest.has_text, "text")

    def prepare(self, manifest: Manifest) -> Manifest:
        """The rows that aren't clipped, without the silence at their ends."""
        skip = self.on_error == "skip"
        if self.max_clipped is not None:
            rule = clipping_rule(clipped_fractions(manifest, skip), self.max_clipped)
            manifest = keep_rows(manifest, [rule])
        return manifest if self.detector is None else trim_silence(manifest, self.detector, skip)

    def rules(self, manifest: Manifest) -> list[Rule]:
        """Which rows are kept, and why the others are dropped."""
        rules = super().rules(manifest) + text_length_rules(manifest, *self.text_length)
        rules += speaking_rate_rules(manifest, *self.speaking_rate)
        if self.text_encoder is not None and self.count_frames is not None:
            rules += alignment_rules(
                manifest, self.text_encoder, self.count_frames, self.sample_rate
            )
        return rules

    def read(self, row: Row) -> torch.Tensor | Recording:
        """The row's audio [T], or a long recording that is read in parts.

        It is read where a transform needs all of it, or where a damaged file is to be skipped.
        """
        path, longest = row.audio_filepath, self.window_seconds
        long = longest is not None and row.duration > longest and path.suffix.lower() != ".mp3"
        parts = long and not self.instance_transforms and self.on_error == "raise"
        if parts and isinstance(path, Path):
            return Recording(path, self.sample_rate, row.offset, row.duration)
        return super().read(row)

    def read_uncut(self, row: Row) -> torch.Tensor:
        """The row's audio [T] with the silence that was trimmed."""
        start, end = row.cut
        whole = (row.offset - start, start + row.duration + end)
        return read_audio(row.audio_filepath, self.sample_rate, *whole)

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """The item of a row before the transforms."""
        item = super().make_item(row, id, seed)
        if self.detector is not None:
            item["trimmed"] = row.cut[0]
        if any(row.cut) and getattr(self.instance_transforms, "keeps_stages", False):
            item[STAGES] = [("input", self.read_uncut(row)), ("trim", item["audio"])]
        if self.text_encoder is not None and row.text is not None:
            item["raw_text"] = row.text
            item["text"] = self.text_encoder.normalize(row.text)
            item["tokens"] = torch.tensor(self.text_encoder.encode(row.text), dtype=torch.int64)
        return item
