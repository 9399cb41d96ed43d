"""The page about evaluations, written beside their results."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from src.report.collector import Collector, leave_worst, tolerated
from src.report.facts import Facts
from src.report.page import AUDIO, PAGE, EvaluationReport, write_page
from src.trainer.evaluation import Evaluation, Rows, place_of, worst_first, write_table
from src.trainer.output_folder import OutputFolder
from src.utils.options import check_choice

AUDIO_CHOICES = ("none", "worst", "all")


class Reporter:
    """Collects what evaluations show while they run, and writes one page about them.

    Whatever goes wrong is logged, so that no evaluation is lost for its report.

    Args:
        system: `src.system.System`.
        accelerator: of this process; the main one writes the page.
        output: the folder to write to, for which `OutputFolder.start` was called.
        facts: gives the facts about the run when the page is written.
        audio: which utterances get players: `none`, the `worst` 50, or `all`.
        tables: whether to write the tables of utterances, too.

    Raises:
        ValueError: another value of `audio`.
    """

    def __init__(
        self,
        *,
        system: Any,
        accelerator: Accelerator,
        output: OutputFolder,
        facts: Callable[[], Facts],
        audio: str = "worst",
        tables: bool = False,
    ):
        check_choice("report.audio", audio, AUDIO_CHOICES)
        self.system, self.accelerator, self.output = system, accelerator, output
        self.facts, self.audio, self.tables = facts, audio, tables
        self.evaluations: list[EvaluationReport] = []

    def prepare(self, names: Sequence[str]) -> None:
        """Prepare the output folder for evaluations of these names."""
        if self.accelerator.is_main_process:
            with tolerated(f"{self.output.path} can't take a report"):
                self.output.start(list(names))

    def start(self, evaluation: Evaluation) -> Collector:
        """What collects from the batches of an evaluation; all processes must call this."""
        task = self.system.task
        higher = evaluation.metrics.higher_is_better(task.sort_by)

        def rank(row: dict[str, Any]) -> tuple[bool, float, str]:
            return place_of(row, task.sort_by, higher)

        folder = None
        with tolerated(f"{self.output.path} can't take a report"):
            folder = shared_folder(self.output, self.accelerator)
        return Collector(task, self.system.sample_rate, folder, self.audio, rank)

    def finish(
        self, evaluation: Evaluation, values: dict[str, float], rows: Rows, collector: Collector
    ) -> None:
        """Take the results of an evaluation; all processes must call this.

        Args:
            evaluation: that has ended.
            values: metric -> value.
            rows: the table of the utterances of all processes.
            collector: from `start`.
        """
        details = {k: v for own in gather_object([collector.details]) for k, v in own.items()}
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process or collector.folder is None:
            return
        with tolerated(f"the report of {evaluation.name} could not be made"):
            task, name = self.system.task, evaluation.name
            higher = evaluation.metrics.higher_is_better(task.sort_by)
            # A new dict for each, since files that are removed are removed from it.
            shown = [row | details.get(row["id"], {}) for row in rows]
            shown = worst_first(shown, task.sort_by, higher)
            if self.tables and rows:
                table = worst_first(rows, task.sort_by, higher)
                write_table(self.output.claim(f"{name}.tsv"), table)
            if self.audio == "worst":
                leave_worst(collector.folder, shown)
            self.output.finish(f"{AUDIO}/{name}", collector.folder)
            self.evaluations.append(
                EvaluationReport(
                    name=name,
                    values=values,
                    further=evaluation.metrics.further_values(),
                    rows=shown,
                    alignments=[task.alignments(row) for row in shown],
                    sections=task.sections(shown),
                    folder=f"{AUDIO}/{name}/",
                    note=evaluation.metrics.normalizations(),
                )
            )
        collector.discard()  # of a report that could not be made

    def write(self) -> None:
        """Write the page about all evaluations so far."""
        if self.accelerator.is_main_process:
            with tolerated(f"{self.output.path / PAGE} could not be written"):
                write_page(self.output.claim(PAGE), self.facts(), self.evaluations)


def shared_folder(output: OutputFolder, accelerator: Accelerator) -> Path:
    """A new hidden folder of an output folder, to which all processes write.

    Raises:
        OSError: it can't be made; in every process.
    """
    place: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            place = [str(output.begin())]
        except Exception as error:  # the others wait for an answer
            place = [error]
    broadcast_object_list(place)
    if isinstance(place[0], Exception):
        raise place[0]
    return Path(place[0])
