"""Evaluation of a finished run: metrics, files for each utterance, and a table of utterances."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from src.trainer.evaluation import Batch, Evaluation, Rows, evaluate, worst_first
from src.trainer.output_folder import OutputFolder
from src.utils.files import write_beside
from src.utils.plots import save_image


class Inferencer:
    """Runs evaluations and writes their results to a folder.

    Args:
        system: `src.system.System` with loaded weights.
        evaluations: name -> evaluation, run in this order.
        accelerator: device, mixed precision and processes.
        output: the folder to write to.
        config: YAML that says how the results came about, written beside each table; empty: none.
    """

    def __init__(
        self,
        *,
        system: nn.Module,
        evaluations: dict[str, Evaluation],
        accelerator: Accelerator,
        output: OutputFolder,
        config: str = "",
    ):
        self.config = config
        self.system, self.evaluations = system, evaluations
        self.accelerator, self.output = accelerator, output

    def run(self) -> dict[str, float]:
        """Run all evaluations.

        Returns:
            `<evaluation>/<metric>` -> value; also written to `metrics.json`.
        """
        values = {}
        for name in self.evaluations:
            for key, value in self.evaluate(name).items():
                values[f"{name}/{key}"] = value
        if self.accelerator.is_main_process:
            with write_beside(self.output.claim("metrics.json")) as path:
                path.write_text(json.dumps(values, indent=2) + "\n")
        return values

    def evaluate(self, name: str) -> dict[str, float]:
        """Run one evaluation and write its results; returns metric name -> value."""
        folder = self.begin()

        def save(batch: Batch) -> None:
            self.system.task.save(folder, **batch)  # type: ignore[union-attr, operator]

        evaluation = self.evaluations[name]
        try:
            values, rows = evaluate(self.system, evaluation, self.accelerator, save)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.finish(name, rows, folder)
        return values

    def begin(self) -> Path:
        """The hidden folder to which all processes save."""
        place: list[Any] = [None]
        if self.accelerator.is_main_process:
            place = [str(self.output.begin())]
        broadcast_object_list(place)
        return Path(place[0])

    def finish(self, name: str, rows: Rows, folder: Path) -> None:
        """Replace the results of an earlier inference, and write the table and the plot."""
        task: Any = self.system.task
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
