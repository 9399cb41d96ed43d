"""Transcripts of a manifest aligned with their audio by a recogniser with CTC."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from src.datasets.loading.collate import collate
from src.datasets.manifest import Manifest
from src.datasets.manifest_dataset import ManifestDataset
from src.run import load_run
from src.system import System
from src.text_encoder.alignment import Word, align, words_of
from src.text_encoder.base import frames_needed

AT_ONCE = 8  # rows in a batch


@dataclass(frozen=True)
class Emissions:
    """What a recogniser says about a row, and the tokens of the row's transcript.

    Attributes:
        index: of the row in the dataset.
        id: of the utterance.
        log_probs: [T, V], natural logarithms; token 0 is the blank.
        tokens: ids of the transcript.
        text: the transcript, normalised.
        prediction: what was recognised.
    """

    index: int
    id: str
    log_probs: Tensor
    tokens: list[int]
    text: str
    prediction: str


def open_transcripts(
    run: Path, manifest: Path, trusted: list[str]
) -> tuple[System, ManifestDataset]:
    """A recogniser and the rows of a manifest that it can align.

    Rows longer than the task's window are left out: memory of an alignment grows with the square
    of the duration. Prints how many they are.

    Raises:
        ValueError: the run is no recogniser, or the manifest has no transcripts.
    """
    system = load_run(run, trusted=trusted)
    if system.text_encoder is None:
        raise ValueError(f"{run}: no recogniser; only one can align transcripts.")
    options: dict[str, Any] = {"window_seconds": None, "max_duration": system.task.window_seconds}
    dataset = ManifestDataset(str(manifest), **system.dataset_arguments(train=False) | options)
    if not dataset.has_targets:
        raise ValueError(f"{manifest}: has no transcripts.")
    if left_out := len(Manifest(manifest)) - len(dataset):
        print(f"{left_out} rows longer than {system.task.window_seconds:g} s are left out.")
    return system, dataset


def emissions(system: System, dataset: ManifestDataset) -> Iterator[Emissions]:
    """The log-probabilities of each row, in the order of their durations.

    Raises:
        ValueError: the model has no log-probabilities of tokens, or a row can't be read.
    """
    order = np.argsort(dataset.durations, kind="stable").tolist()
    bar = tqdm(total=len(order), desc="aligning", unit="row", disable=None)
    for start in range(0, len(order), AT_ONCE):
        indices = order[start : start + AT_ONCE]
        batch = system.evaluation_step(collate([dataset[i] for i in indices]))
        if "log_probs" not in batch or "tokens" not in batch:
            raise ValueError("The run is no recogniser with CTC, which is needed to align texts.")
        for k, index in enumerate(indices):
            yield Emissions(
                index,
                batch["id"][k],
                batch["log_probs"][k, : int(batch["log_probs_length"][k])].float().cpu(),
                batch["tokens"][k, : int(batch["tokens_length"][k])].tolist(),
                batch["text"][k],
                batch["prediction"][k],
            )
        bar.update(len(indices))
    bar.close()


def word_times(system: System, row: Emissions) -> list[Word]:
    """The words of a transcript with their times, in seconds from the start of the row's audio.

    Empty if the transcript is too long to be aligned.

    Raises:
        ValueError: the model has no constant stride, so that its frames have no time.
    """
    if system.stride is None:
        raise ValueError("The model has no constant stride, which is needed for times of words.")
    if len(row.log_probs) < frames_needed(row.tokens):
        return []
    spans = align(row.log_probs, row.tokens)
    return words_of(spans, system.text_encoder.vocabulary, system.stride / system.sample_rate)
