"""The results of a run's test evaluations, from what inference or the end of training wrote."""

import csv
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config import build
from src.loaded_config import read_config
from src.metrics.base import Metric
from src.metrics.mean import BatchMean
from src.utils.files import read_bytes, read_jsonl
from src.utils.nodes import plain

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Score:
    """The value of a metric.

    Attributes:
        name: of the metric.
        value: finite.
        metric: which says how it was computed.
    """

    name: str
    value: float
    metric: Metric


@dataclass(frozen=True)
class Result:
    """What an evaluation of a run gave.

    Attributes:
        name: of the evaluation.
        config: that the result came about by.
        utterances: their number; None if unknown.
        scores: those with a direction; no means over batches.
    """

    name: str
    config: DictConfig
    utterances: int | None
    scores: list[Score]

    @property
    def dataset(self) -> Any:
        """The node of its dataset, plain; None if unknown."""
        own = self.config.evaluations.get(self.name) or {}
        return plain(self.config.datasets).get(own.get("dataset", self.name))


@dataclass(frozen=True)
class Results:
    """The results of a run, which were all written to one folder.

    Attributes:
        folder: with the page about them, if there is one.
        results: of one evaluation each.
    """

    folder: Path
    results: list[Result]


def metrics_of(config: DictConfig, name: str) -> dict[str, Metric]:
    """The metrics of an evaluation, by name.

    Args:
        config: of a run or an inference.
        name: of the evaluation.
    """
    own = config.evaluations.get(name) or OmegaConf.create({})
    metrics = build(own if "metrics" in own else config, "metrics") or {}
    return {key: metric for key, metric in metrics.items() if metric is not None}


def read_results(
    run: Path,
    inference: Path,
    config: DictConfig,
    weights: Path,
    checkpoints: Sequence[str],
    trusted: Sequence[str] = (),
) -> Results | None:
    """The results of a checkpoint on the sets in `trainer.test_on`.

    They are those of the last inference, or, if that was before the checkpoint was saved or of
    another one, those of the end of training. None if there are neither.

    Args:
        run: folder of the run.
        inference: folder that inference wrote to.
        config: of the run.
        weights: file of the checkpoint.
        checkpoints: names of the checkpoint.
        trusted: packages besides this one and torch whose classes the configs may name.

    Raises:
        ValueError: a file is damaged.
    """
    names = [str(name) for name in config.trainer.get("test_on") or ("test",)]
    read = [read_inference(inference, name, weights, checkpoints, trusted) for name in names]
    found = [result for result in read if result is not None]
    if found:
        return Results(inference, found)
    # Training tests the best checkpoint if it monitors a metric, and the last one if not.
    tested = "best" if config.trainer.get("monitor") else "last"
    found = read_training(run, config, names) if tested in checkpoints else []
    return Results(run / "report", found) if found else None


def read_inference(
    folder: Path, name: str, weights: Path, checkpoints: Sequence[str], trusted: Sequence[str]
) -> Result | None:
    """What inference wrote about an evaluation; None if it isn't about these weights."""
    source = folder / f"{name}.yaml"
    if not source.is_file() or not (folder / "metrics.json").is_file():
        return None
    if source.stat().st_mtime < weights.stat().st_mtime:
        logger.warning("%s: older than %s, and left out.", source, weights)
        return None
    config = read_config(source, trusted)
    if config.get("checkpoint") not in checkpoints:
        logger.warning("%s: of the checkpoint %s, and left out.", source, config.get("checkpoint"))
        return None
    try:
        values = dict(json.loads(read_bytes(folder / "metrics.json")))
    except (ValueError, TypeError, RecursionError):
        raise ValueError(f"{folder / 'metrics.json'}: damaged; run inference.py again.") from None
    return result_of(config, name, values, folder / f"{name}.tsv")


def read_training(run: Path, config: DictConfig, names: list[str]) -> list[Result]:
    """What the end of training logged about evaluations, if nothing was trained after it."""
    path = run / "metrics.jsonl"
    rows = read_jsonl(path, tolerant=True) if path.is_file() else []
    rows = [row for row in rows if isinstance(row.get("step"), int)]
    last = max((row["step"] for row in rows), default=0)
    values: dict[str, Any] = {}
    for row in rows:
        if row["step"] == last:
            values |= row
    read = [result_of(config, name, values, run / "report" / f"{name}.tsv") for name in names]
    return [result for result in read if result is not None]


def result_of(config: DictConfig, name: str, values: dict[str, Any], table: Path) -> Result | None:
    """The result of an evaluation; None if it has no values, or none of a metric.

    Args:
        config: of the run or the inference.
        name: of the evaluation.
        values: `<evaluation>/<metric>` -> value.
        table: of utterances; may be absent.
    """
    scores = []
    for key, metric in metrics_of(config, name).items():
        value = values.get(f"{name}/{key}")
        directed = metric.higher_is_better is not None and not isinstance(metric, BatchMean)
        if directed and isinstance(value, int | float) and math.isfinite(value):
            scores.append(Score(key, float(value), metric))
    return Result(name, config, count_rows(table), scores) if scores else None


def count_rows(table: Path) -> int | None:
    """Rows of a table of tab-separated values below its header; None if there is no such file."""
    if not table.is_file():
        return None
    with table.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file, delimiter="\t")) - 1
