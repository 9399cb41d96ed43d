"""A finished run on a split: figures, one file for each utterance, and a table of them."""

import csv
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from src.metrics.tracker import MetricTracker
from src.tasks.base import Task
from src.trainer.evaluation import Batch, Step, evaluate
from src.utils.files import write_beside
from src.utils.plots import save_image

logger = logging.getLogger(__name__)


class Inferencer:
    """Evaluates splits and saves what came out.

    Args:
        model: with its weights, prepared by the accelerator.
        loss: left out for splits without targets.
        task: decodes and saves.
        loaders: split -> batches.
        labelled: split -> whether its items have targets, so that it can be scored.
        transforms: the batch transforms of inference.
        trackers: split -> metrics.
        accelerator: devices, precision and processes.
        output: the folder to write to; each split gets a folder of its own in it.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        loss: Step,
        task: Task,
        loaders: dict[str, Any],
        labelled: dict[str, bool],
        transforms: Step,
        trackers: dict[str, MetricTracker],
        accelerator: Accelerator,
        output: Path,
    ):
        self.model, self.loss, self.task = model, loss, task
        self.loaders, self.labelled = loaders, labelled
        self.transforms, self.trackers = transforms, trackers
        self.accelerator, self.output = accelerator, output

    def run(self) -> dict[str, float]:
        """All splits.

        Returns:
            `<split>/<name>` -> figure, also written to `metrics.json`.
        """
        figures = {}
        if self.accelerator.is_main_process:
            (self.output / "metrics.json").unlink(missing_ok=True)
        for split in self.loaders:
            for name, value in self.evaluate(split).items():
                figures[f"{split}/{name}"] = value
        if self.accelerator.is_main_process:
            with write_beside(self.output / "metrics.json") as path:
                path.write_text(json.dumps(figures, indent=2) + "\n")
        return figures

    def evaluate(self, split: str) -> dict[str, float]:
        """One split: evaluate it, save each batch, write the table of utterances."""
        directory = self.output / split
        table = self.output / f"{split}.tsv"
        unfinished = directory / ".unfinished"
        if self.accelerator.is_main_process:
            if table.exists() or unfinished.exists():  # an earlier evaluation's, not the user's own
                shutil.rmtree(directory, ignore_errors=True)
                for path in (table, self.output / f"{split}.png"):
                    path.unlink(missing_ok=True)
            directory.mkdir(parents=True, exist_ok=True)
            unfinished.touch()
        self.accelerator.wait_for_everyone()
        rows: list[dict] = []

        def save(batch: Batch) -> None:
            self.task.save_batch(directory, **batch)
            rows.extend(batch.get("rows", []))

        labelled = self.labelled[split]
        figures = evaluate(
            self.model,
            self.loaders[split],
            transforms=self.transforms,
            loss=self.loss if labelled else None,
            task=self.task,
            tracker=self.trackers[split] if labelled else MetricTracker({}),
            accelerator=self.accelerator,
            name=split,
            on_batch=save,
        )
        rows = gather_object(rows)
        unfinished.unlink(missing_ok=True)
        if rows and self.accelerator.is_main_process:
            write_table(table, worst_first(rows, self.task.worst_first))
            picture = self.task.picture(rows)
            if picture is not None:
                save_image(picture, self.output / f"{split}.png")
        return figures


def worst_first(rows: list[dict], column: str) -> list[dict]:
    """Rows sorted by a column, largest first (`-column`: smallest first), then by id."""
    name, sign = (column[1:], 1) if column.startswith("-") else (column, -1)
    return sorted(rows, key=lambda row: (sign * row.get(name, 0.0), row["id"]))


def write_table(path: Path, rows: list[dict]) -> None:
    """Write rows as tab-separated values with a header."""
    with write_beside(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        names = list(dict.fromkeys(name for row in rows for name in row))  # some rows lack some
        table = csv.DictWriter(file, fieldnames=names, delimiter="\t")
        table.writeheader()
        table.writerows(rows)
