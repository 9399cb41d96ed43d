"""Evaluation of a finished run: metrics, files for each utterance, and a table of utterances."""

import json
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from src.trainer.evaluation import (
    Batch,
    Evaluation,
    Rows,
    evaluate,
    worst_first,
    write_table,
)
from src.trainer.output_folder import RESULTS, OutputFolder
from src.trainer.reporter import Reporter, shared_folder
from src.trainer.summary import write_results
from src.utils.files import write_beside
from src.utils.plots import save_image


class Inferencer:
    """Runs evaluations and writes their results to a folder.

    Args:
        system: `src.system.System` with loaded weights.
        evaluations: name -> evaluation, run in this order.
        accelerator: device, mixed precision and processes.
        output: the folder to write to.
        reporter: makes the page.
        config: YAML that says how the results came about, written beside each table; empty: none.
    """

    def __init__(
        self,
        *,
        system: nn.Module,
        evaluations: dict[str, Evaluation],
        accelerator: Accelerator,
        output: OutputFolder,
        reporter: Reporter,
        config: str = "",
    ):
        self.config = config
        self.system, self.evaluations = system, evaluations
        self.accelerator, self.output, self.reporter = accelerator, output, reporter

    def run(self) -> dict[str, float]:
        """Run all evaluations.

        Returns:
            `<evaluation>/<metric>` -> value; also written to metrics.json and evaluations.tsv.
        """
        values = {}
        for name in self.evaluations:
            for key, value in self.evaluate(name).items():
                values[f"{name}/{key}"] = value
        if self.accelerator.is_main_process:
            with write_beside(self.output.claim("metrics.json")) as path:
                path.write_text(json.dumps(values, indent=2) + "\n")
            write_results(self.output.claim(RESULTS), values)
        self.reporter.write()
        return values

    def evaluate(self, name: str) -> dict[str, float]:
        """Run one evaluation and write its results; returns metric name -> value."""
        folder = shared_folder(self.output, self.accelerator)
        evaluation = self.evaluations[name]
        collector = self.reporter.start(evaluation)

        def save(batch: Batch) -> None:
            self.system.task.save(folder, **batch)  # type: ignore[union-attr, operator]
            collector.add(batch)

        try:
            values, rows = evaluate(self.system, evaluation, self.accelerator, save)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            collector.discard()
            raise
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.finish(name, rows, folder)
        self.reporter.finish(evaluation, values, rows, collector)
        return values

    def finish(self, name: str, rows: Rows, folder: Path) -> None:
        """Replace the results of an earlier inference, and write the table and the plot."""
        task: Any = self.system.task
        for values in ("metrics.json", RESULTS):  # of an earlier inference, maybe of other weights
            self.output.discard(values)
        self.output.finish(name, folder)
        if rows:
            higher = self.evaluations[name].metrics.higher_is_better(task.sort_by)
            rows = worst_first(rows, task.sort_by, higher)
            write_table(self.output.claim(f"{name}.tsv"), rows)
        if self.config:
            with write_beside(self.output.claim(f"{name}.yaml")) as path:
                path.write_text(self.config, encoding="utf-8")
        picture = task.picture(rows)
        if picture is not None:
            save_image(picture, self.output.claim(f"{name}.png"))
