"""Does pretraining pay? Fine-tuning from a pretrained run beside training from random weights.

python scripts/compare_starts.py RUN [--out runs/starts]

Both get the same labelled minutes, steps and seeds; the learning rate of each is the one that does
best on the validation split with the first seed. Prints a table. What is done already in the output
folder is not done again.
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

from src.trainer.run_folder import RunFolder
from src.utils.entry import run_command
from src.utils.files import read_jsonl, write_beside

STARTS = {"random": "asr_conformer", "pretrained": "asr_nest"}
COMMON = [
    "trainer.epochs=1",
    "trainer.monitor=null",
    "trainer.save_every=null",
    "trainer.show_every=0",
    "writer=nothing",
]


@dataclass(frozen=True)
class Job:
    """One training."""

    start: str
    minutes: float
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.start}_{self.minutes:g}min_lr{self.rate:g}_seed{self.seed}"


def train(job: Job, arguments: argparse.Namespace) -> None:
    """Train in a process of its own.

    Raises:
        ValueError: it failed; names the log.
    """
    folder = arguments.out / job.name
    command = [sys.executable, str(ROOT / "train.py"), "-cn", STARTS[job.start]]
    if job.start == "pretrained":
        command.append(f"trainer.from_pretrained={arguments.run}")
    if (folder / "last").exists():
        command.append(f"trainer.resume_from={folder}")
    else:
        command += [f"run_dir={folder}", f"datasets.train.minutes={job.minutes}", *COMMON]
        command += [f"optimizer.lr={job.rate}", f"seed={job.seed}", f"threads={arguments.threads}"]
        command += [f"trainer.steps_per_epoch={arguments.steps}", *arguments.overrides]
    log = arguments.out / f"{job.name}.log"
    with log.open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False, cwd=ROOT)
    if done.returncode:
        raise ValueError(f"{log}: the training failed; its last words are there.")


def word_error_rate(job: Job, split: str, arguments: argparse.Namespace) -> float | None:
    """In percent, or None if the training is not done."""
    path = arguments.out / job.name / "metrics.jsonl"
    rows = read_jsonl(path) if path.exists() else []
    found = [row[f"{split}/WER"] for row in rows if f"{split}/WER" in row]
    return 100 * found[-1] if found else None


def figure(job: Job, split: str, arguments: argparse.Namespace) -> float:
    """The same of a training that is done.

    Raises:
        ValueError: it has no such figure.
    """
    value = word_error_rate(job, split, arguments)
    if value is None:
        raise ValueError(f"{arguments.out / job.name}: no {split} WER in its metrics.jsonl.")
    return value


def check_same_question(arguments: argparse.Namespace) -> None:
    """Note what is compared, and see that trainings done before in this folder were for the same.

    Raises:
        ValueError: they weren't.
    """
    path = arguments.out / "comparison.json"
    asked = {"run": str(arguments.run), "steps": arguments.steps, "overrides": arguments.overrides}
    if path.exists() and json.loads(path.read_text()) != asked:
        raise ValueError(f"{arguments.out}: holds another comparison, {path.read_text().strip()}.")
    with write_beside(path) as beside:
        beside.write_text(json.dumps(asked) + "\n")


def train_all(jobs: Iterable[Job], arguments: argparse.Namespace, title: str) -> None:
    """Train what is not done, some at a time."""
    left = [job for job in jobs if word_error_rate(job, "test", arguments) is None]
    with ThreadPoolExecutor(arguments.parallel) as pool:
        done = pool.map(lambda job: train(job, arguments), left)
        for _ in tqdm(done, total=len(left), desc=title, unit="training", disable=not left):
            pass


def compare(arguments: argparse.Namespace) -> None:
    """Find the rates, train with all seeds, print the table."""
    arguments.out = arguments.out.resolve()
    arguments.run = arguments.run.resolve()
    if arguments.run.suffix != ".nemo":
        RunFolder.open(arguments.run)  # says so if it is none
    arguments.out.mkdir(parents=True, exist_ok=True)
    check_same_question(arguments)
    cases = [(start, minutes) for minutes in arguments.minutes for start in STARTS]
    first, *others = arguments.seeds
    search = {
        case: [Job(*case, rate, first) for rate in arguments.rates[case[0]]] for case in cases
    }
    train_all((job for jobs in search.values() for job in jobs), arguments, "learning rates")
    best = {
        case: min(jobs, key=lambda job: figure(job, "val", arguments))
        for case, jobs in search.items()
    }
    repeated = {
        case: [Job(job.start, job.minutes, job.rate, seed) for seed in (first, *others)]
        for case, job in best.items()
    }
    train_all((job for jobs in repeated.values() for job in jobs), arguments, "seeds")
    print_search(search, arguments)
    print_table(repeated, arguments)


def print_search(search: dict, arguments: argparse.Namespace) -> None:
    """Validation WER of each rate with the first seed."""
    print("\nvalidation WER in % by learning rate, first seed")
    for (start, minutes), jobs in search.items():
        found = [(job.rate, figure(job, "val", arguments)) for job in jobs]
        shown = "  ".join(f"{rate:g}: {value:.1f}" for rate, value in found)
        print(f"{minutes:>4g} min  {start:<11} {shown}")


def print_table(repeated: dict, arguments: argparse.Namespace) -> None:
    """Test WER of each start, and what pretraining takes off."""
    print(f"\ntest WER in %, {arguments.steps} steps, seeds {arguments.seeds}")
    print("| labelled minutes | start | rate | WER of each seed | mean | spread | fewer errors |")
    print("|---|---|---|---|---|---|---|")
    control = 0.0
    for (start, minutes), jobs in repeated.items():
        values = [figure(job, "test", arguments) for job in jobs]
        mean = statistics.mean(values)
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        control = mean if start == "random" else control
        fewer = f"{100 * (1 - mean / control):.0f} %" if start == "pretrained" else ""
        shown = ", ".join(f"{value:.1f}" for value in values)
        print(
            f"| {minutes:g} | {start} | {jobs[0].rate:g} | {shown} | {mean:.1f} | {spread:.1f} "
            f"| {fewer} |"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the pretrained run")
    parser.add_argument("--out", type=Path, default=Path("runs/starts"))
    parser.add_argument("--minutes", type=float, nargs="+", default=[3, 10], help="with labels")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--random-rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3, 8e-3])
    parser.add_argument(
        "--pretrained-rates", type=float, nargs="+", default=[2e-3, 4e-3, 8e-3, 16e-3]
    )
    parser.add_argument("--parallel", type=int, default=2, help="trainings at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each training")
    parser.add_argument("--overrides", nargs="*", default=[], help="key=value, for all trainings")
    arguments = parser.parse_args()
    arguments.rates = {
        "random": arguments.random_rates,
        "pretrained": arguments.pretrained_rates,
    }
    run_command(lambda: compare(arguments))


if __name__ == "__main__":
    main()
