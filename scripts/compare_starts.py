"""Compare fine-tuning of a pretrained encoder with training from random weights.

python scripts/compare_starts.py RUN [--out runs/starts]

Both are trained on the same labelled minutes with the same steps and seeds. The learning rate of
each is the one with the lowest validation WER for the first seed. Prints the validation WER of all
learning rates and a table of test WER. An interrupted comparison can be started again: finished
trainings are not repeated.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tqdm.auto import tqdm

from src.run import Run, open_source
from src.utils.entry import run_command
from src.utils.files import read_jsonl, write_beside

STARTS = {"random": "asr_conformer", "pretrained": "asr_nest"}
LEARNING_RATES = {"random": [1e-3, 2e-3, 4e-3, 8e-3], "pretrained": [2e-3, 4e-3, 8e-3, 16e-3]}
COMMON = [
    "trainer.epochs=1",
    "trainer.monitor=null",
    "trainer.save_every_steps=null",
    "trainer.show_every_epochs=0",
    "writer=nothing",
]


@dataclass(frozen=True)
class Job:
    """One training run: initialisation, labelled minutes, learning rate and seed."""

    start: str
    minutes: float
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"{self.start}_{self.minutes:g}min_lr{self.learning_rate:g}_seed{self.seed}"


def train(job: Job, arguments: argparse.Namespace) -> None:
    """Train in a separate process, resuming an interrupted run.

    Raises:
        ValueError: the training failed; names the log.
    """
    folder = arguments.out / job.name
    command = [sys.executable, str(ROOT / "train.py"), "-cn", STARTS[job.start]]
    if job.start == "pretrained":
        command.append(f"init.encoder.source={arguments.run}")
    if Run(folder).has("last"):
        command.append(f"trainer.resume_from={folder}")
    else:
        command += [f"run_dir={folder}", f"datasets.train.minutes={job.minutes}", *COMMON]
        command += [
            f"optimizer.lr={job.learning_rate}",
            f"seed={job.seed}",
            f"threads={arguments.threads}",
        ]
        command += [f"trainer.steps_per_epoch={arguments.steps}", *arguments.overrides]
    log = arguments.out / f"{job.name}.log"
    with log.open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False, cwd=ROOT)
    if done.returncode:
        raise ValueError(f"{log}: training failed; see the end of this file.")


def word_error_rate(job: Job, split: str, arguments: argparse.Namespace) -> float | None:
    """The last WER of an evaluation in percent; None if there is none yet."""
    path = arguments.out / job.name / "metrics.jsonl"
    rows = read_jsonl(path, tolerant=True) if path.exists() else []
    values = [row[f"{split}/WER"] for row in rows if f"{split}/WER" in row]
    return 100 * values[-1] if values else None


def finished_word_error_rate(job: Job, split: str, arguments: argparse.Namespace) -> float:
    """WER of a finished training in percent.

    Raises:
        ValueError: its metrics have no WER of this evaluation.
    """
    value = word_error_rate(job, split, arguments)
    if value is None:
        raise ValueError(f"{arguments.out / job.name}: no {split} WER in its metrics.jsonl.")
    return value


def check_same_comparison(arguments: argparse.Namespace) -> None:
    """Write the options into the output folder, or check that they equal those already there.

    Raises:
        ValueError: the folder holds a comparison with other options.
    """
    path = arguments.out / "comparison.json"
    options = {
        "run": str(arguments.run),
        "steps": arguments.steps,
        "overrides": arguments.overrides,
    }
    if path.exists() and json.loads(path.read_text()) != options:
        raise ValueError(f"{arguments.out}: holds another comparison, {path.read_text().strip()}.")
    with write_beside(path) as beside:
        beside.write_text(json.dumps(options) + "\n")


def train_all(jobs: Iterable[Job], arguments: argparse.Namespace, title: str) -> None:
    """Run the trainings that are not finished, several in parallel."""
    unfinished = [job for job in jobs if word_error_rate(job, "test", arguments) is None]
    with ThreadPoolExecutor(arguments.parallel) as pool:
        done = pool.map(lambda job: train(job, arguments), unfinished)
        for _ in tqdm(done, total=len(unfinished), desc=title, disable=not unfinished):
            pass


def compare(arguments: argparse.Namespace) -> None:
    """Choose the learning rates, train with all seeds, and print the tables."""
    arguments.out = arguments.out.resolve()
    arguments.run = open_source(arguments.run).path.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    check_same_comparison(arguments)
    cases = [(start, minutes) for minutes in arguments.minutes for start in STARTS]
    first, *others = arguments.seeds
    search = {
        case: [
            Job(*case, learning_rate, first) for learning_rate in arguments.learning_rates[case[0]]
        ]
        for case in cases
    }
    train_all((job for jobs in search.values() for job in jobs), arguments, "learning rates")
    best = {
        case: min(jobs, key=lambda job: finished_word_error_rate(job, "val", arguments))
        for case, jobs in search.items()
    }
    repeated = {
        case: [Job(job.start, job.minutes, job.learning_rate, seed) for seed in (first, *others)]
        for case, job in best.items()
    }
    train_all((job for jobs in repeated.values() for job in jobs), arguments, "seeds")
    print_search(search, arguments)
    print_table(repeated, arguments)


def print_search(search: dict, arguments: argparse.Namespace) -> None:
    """Print the validation WER of each learning rate with the first seed."""
    print("\nvalidation WER in % by learning rate, first seed")
    for (start, minutes), jobs in search.items():
        values = [finished_word_error_rate(job, "val", arguments) for job in jobs]
        shown = "  ".join(
            f"{job.learning_rate:g}: {value:.1f}" for job, value in zip(jobs, values, strict=True)
        )
        print(f"{minutes:>4g} min  {start:<11} {shown}")


def print_table(repeated: dict, arguments: argparse.Namespace) -> None:
    """Print the mean test WER of both initialisations and the relative error reduction."""
    print(f"\ntest WER in %, {arguments.steps} steps, seeds {arguments.seeds}")
    print(
        "| labelled minutes | start | learning rate | WER of each seed "
        "| mean | std | error reduction |"
    )
    print("|---|---|---|---|---|---|---|")
    baseline = 0.0
    for (start, minutes), jobs in repeated.items():
        values = [finished_word_error_rate(job, "test", arguments) for job in jobs]
        mean = statistics.mean(values)
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        baseline = mean if start == "random" else baseline
        reduction = f"{100 * (1 - mean / baseline):.0f} %" if start == "pretrained" else ""
        shown = ", ".join(f"{value:.1f}" for value in values)
        print(
            f"| {minutes:g} | {start} | {jobs[0].learning_rate:g} | {shown} "
            f"| {mean:.1f} | {deviation:.1f} | {reduction} |"
        )


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="pretrained run, also of the hub, or a .nemo file")
    parser.add_argument("--out", type=Path, default=Path("runs/starts"), help="output folder")
    parser.add_argument(
        "--minutes", type=float, nargs="+", default=[3, 10], help="of labelled speech"
    )
    parser.add_argument("--steps", type=int, default=1000, help="optimisation steps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one training each")
    for start, default in LEARNING_RATES.items():
        text = f"learning rates to try from {start} weights"
        parser.add_argument(f"--{start}-lrs", type=float, nargs="+", default=default, help=text)
    parser.add_argument("--parallel", type=int, default=2, help="trainings in parallel")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each training")
    parser.add_argument(
        "--overrides", nargs="*", default=[], help="key=value, passed to every training"
    )
    arguments = parser.parse_args()
    arguments.learning_rates = {start: getattr(arguments, f"{start}_lrs") for start in STARTS}
    run_command(lambda: compare(arguments))


if __name__ == "__main__":
    main()
