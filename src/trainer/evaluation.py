"""Evaluation, used by both training and inference."""

import csv
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import nn
from tqdm.auto import tqdm

from src.datasets.loading.collate import collate
from src.metrics.tracker import MetricTracker
from src.trainer.compiling import uncompiled
from src.trainer.random_state import random_state, set_random_state
from src.trainer.sharding import unsharded
from src.utils.files import write_beside

Batch = dict[str, Any]
Rows = list[dict[str, Any]]


@dataclass
class Evaluation:
    """A named evaluation: a dataset with its metrics and loss.

    Attributes:
        name: as in the config; prefix of its metrics, `<name>/<metric>`.
        loader: the batches of this process.
        metrics: reset at the beginning of each evaluation.
        loss: computed for each batch; None without targets.
        labelled: whether the dataset has targets, which metrics and loss need.
    """

    name: str
    loader: Any
    metrics: MetricTracker
    loss: nn.Module | None = None
    labelled: bool = True

    def directions(self) -> dict[str, bool | None]:
        """`<name>/<metric>` -> whether higher is better; None if a metric has no direction."""
        names = self.metrics.names()
        return {f"{self.name}/{key}": self.metrics.higher_is_better(key) for key in names}


def directions(evaluations: Iterable[Evaluation]) -> dict[str, bool | None]:
    """What can be monitored in some evaluations, and whether higher is better."""
    return {key: higher for one in evaluations for key, higher in one.directions().items()}


def synchronise_buffers(model: nn.Module, accelerator: Accelerator) -> None:
    """Copy the buffers of the main process to all processes, e.g. running statistics."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            buffer.copy_(broadcast(buffer))


@torch.no_grad()
def evaluate(
    system: nn.Module,
    evaluation: Evaluation,
    accelerator: Accelerator,
    on_batch: Callable[[Batch], None] = lambda batch: None,
    check_stop: Callable[[], None] = lambda: None,
) -> tuple[dict[str, float], Rows]:
    """Evaluate a system on a dataset.

    Args:
        system: `src.system.System`, which is put in evaluation mode. Not the wrapper for several
            processes: its forward pass synchronises them, but their numbers of batches may differ.
        evaluation: dataset, metrics and loss.
        accelerator: provides mixed precision and communication between processes.
        on_batch: called with every batch of this process after `evaluation_step`.
        check_stop: called before each batch that every process has; may raise.

    Returns:
        Metric name -> value, the same in every process; and the table of the utterances of all
        processes, one row each: `id`, scores, and the descriptive columns of the task.
    """
    model: Any = system.model
    with unsharded(model), uncompiled(model):
        return run_evaluation(system, evaluation, accelerator, on_batch, check_stop)


def run_evaluation(
    system: nn.Module,
    evaluation: Evaluation,
    accelerator: Accelerator,
    on_batch: Callable[[Batch], None],
    check_stop: Callable[[], None],
) -> tuple[dict[str, float], Rows]:
    """As `evaluate`, with a model that isn't sharded."""
    system.eval()
    synchronise_buffers(system.model, accelerator)  # type: ignore[arg-type]
    evaluation.metrics.reset()
    rows: Rows = []
    quiet = not accelerator.is_local_main_process
    bar = tqdm(evaluation.loader, desc=evaluation.name, leave=False, disable=quiet)
    for number, batch in enumerate(bar):
        if accelerator.num_processes == 1 or number < evaluation.loader.common_batches:
            check_stop()
        batch = system.evaluation_step(batch, evaluation.loss)  # type: ignore[operator]
        scores = evaluation.metrics.update(**batch)
        if batch["id"]:
            columns = batch.get("rows") or [{} for _ in batch["id"]]
            batch["rows"] = [
                {"id": name} | score | row | score  # no column replaces a score
                for name, score, row in zip(batch["id"], scores, columns, strict=True)
            ]
            on_batch(batch)
            rows += batch["rows"]
    evaluation.metrics.share(gather_object)
    return evaluation.metrics.compute(), gather_object(rows)


@torch.no_grad()
def try_evaluations(system: nn.Module, evaluations: Iterable[Evaluation]) -> None:
    """Evaluate an item of each dataset: it's hours until the first epoch ends.

    It's the shortest item of this process; of a dataset that is only an iterator there is none.
    Random states are left as they were.

    Args:
        system: `src.system.System`, which is put in evaluation mode.
        evaluations: datasets, metrics and losses.

    Raises:
        ValueError: the model, a loss or a metric doesn't suit the data; names the evaluation.
    """
    state, step = random_state(), system.evaluation_step
    system.eval()
    with unsharded(system.model), uncompiled(system.model):  # type: ignore[arg-type]
        for one in evaluations:
            if not one.loader.keys:
                continue
            batch = collate([one.loader.dataset[one.loader.keys[-1][-1]]])
            try:
                one.metrics.update(**step(batch, one.loss))  # type: ignore[operator]
            except ValueError as error:
                raise ValueError(f"{one.name}: {error}") from None
            except Exception as error:
                error.add_note(f"It was raised in the evaluation {one.name}.")
                raise
    set_random_state(state)


def worst_first(rows: Rows, score: str, higher_is_better: bool | None) -> Rows:
    """Rows sorted by a score, worst first (NaN before all), then by id; those without it last."""
    return sorted(rows, key=lambda row: place_of(row, score, higher_is_better))


def place_of(
    row: dict[str, Any], score: str, higher_is_better: bool | None
) -> tuple[bool, float, str]:
    """The key by which a row is sorted worst first, see `worst_first`."""
    sign, value = 1 if higher_is_better else -1, row.get(score) or 0.0
    place = -math.inf if math.isnan(value) else sign * value  # NaN would leave no order at all
    return row.get(score) is None, place, row["id"]


def write_table(path: Path, rows: Rows) -> None:
    """Write rows as tab-separated values with a header; numbers with four decimals."""
    with write_beside(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        names = list(
            dict.fromkeys(name for row in rows for name in row)
        )  # not all rows have all columns
        table = csv.DictWriter(file, fieldnames=names, delimiter="\t")
        table.writeheader()
        for row in rows:
            shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
            table.writerow(shown)
