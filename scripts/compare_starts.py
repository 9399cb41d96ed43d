"""Compare fine-tuning of pretrained encoders with training from random weights.

python scripts/compare_starts.py RUN [RUN ...] [--out runs/starts]
python scripts/compare_starts.py runs/nest clusters=runs/second --minutes 3 10 60 \\
    --corpus demo --corpus mine datasets=manifest datasets.train.manifest=train.jsonl \\
    datasets.val.manifest=val.jsonl datasets.test.manifest=test.jsonl

All are trained on the same labelled minutes with the same steps and seeds. The learning rate of
each is the one with the lowest validation WER for the first seed. Prints the validation WER of all
learning rates, a table of test WER, and which differences are larger than the spread of the seeds.
An interrupted comparison can be started again, also with further runs, minutes, corpora, learning
rates or seeds: finished trainings are not repeated.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scipy.stats import ttest_ind
from tqdm.auto import tqdm

from src.comparison import name_runs
from src.run import Run
from src.utils.entry import run_command
from src.utils.files import read_jsonl, write_beside

RANDOM = "random"  # name of the start from random weights; those of runs are their own
LEARNING_RATES = {RANDOM: [4e-3, 8e-3, 16e-3], "pretrained": [2e-3, 4e-3, 8e-3, 16e-3]}
SMALLEST_RANGE = 1e-6  # of WER in %, below which the seeds of a start are equal
COMMON = [
    "trainer.epochs=1",
    "trainer.monitor=null",
    "trainer.save_every_steps=null",
    "trainer.show_every_epochs=0",
    "writer=nothing",
]


@dataclass(frozen=True)
class Job:
    """One training run: labelled corpus and minutes, initialisation, learning rate and seed."""

    corpus: str
    minutes: float
    start: str
    learning_rate: float = 0.0
    seed: int = 0

    @property
    def data(self) -> str:
        """The corpus, if there are several, and the minutes, for messages."""
        return f"{self.corpus} {self.minutes:g} min".strip()

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        case = f"{self.start}_{self.minutes:g}min_lr{self.learning_rate:g}_seed{self.seed}"
        return f"{self.corpus}_{case}" if self.corpus else case


def train(job: Job, arguments: argparse.Namespace) -> None:
    """Train in a separate process, resuming an interrupted run.

    Raises:
        ValueError: the training failed; names the log.
    """
    folder = arguments.out / job.name
    command = [sys.executable, str(ROOT / "train.py"), "-cn"]
    pretrained = job.start != RANDOM
    command.append("asr_nest" if pretrained else "asr_conformer")
    if Run(folder).has("last"):
        command.append(f"trainer.resume_from={folder}")
    else:
        # Datasets need not name all of their options in the config.
        command += [f"run_dir={folder}", f"++datasets.train.minutes={job.minutes}", *COMMON]
        command += [
            f"optimizer.lr={job.learning_rate}",
            f"seed={job.seed}",
            f"threads={arguments.threads}",
        ]
        command += [f"trainer.steps_per_epoch={arguments.steps}", *arguments.overrides]
        command += arguments.corpora[job.corpus]
        if pretrained:
            command.append(f"init.encoder.source={arguments.runs[job.start]}")
            command += arguments.pretrained_overrides
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
    """Write the options into the output folder, or check that they fit those already there.

    Raises:
        ValueError: the folder holds a comparison with other options.
    """
    path = arguments.out / "comparison.json"
    options = {
        "steps": arguments.steps,
        "overrides": arguments.overrides,
        "pretrained_overrides": arguments.pretrained_overrides,
        "runs": {name: str(run) for name, run in arguments.runs.items()},
        "corpora": arguments.corpora,
        "optimizers": "muon",  # of the experiments; overrides may choose another one
    }
    old = {"optimizers": "adamw", **json.loads(path.read_text())} if path.exists() else {}
    for key, value in options.items():
        if isinstance(value, dict):
            before = old.get(key, {})
            changed = {name for name in value if before.get(name, value[name]) != value[name]}
            options[key] = before | value
        else:
            changed = {key} if old.get(key, value) != value else set()
        if changed:
            raise ValueError(
                f"{arguments.out}: holds another comparison, whose {key} are {old[key]}."
            )
    with write_beside(path) as beside:
        beside.write_text(json.dumps(options) + "\n")


def name_corpora(given: list[list[str]] | None) -> dict[str, list[str]]:
    """The overrides of each labelled corpus by its name; one without a name if none is given.

    Raises:
        ValueError: two have the same name.
    """
    corpora: dict[str, list[str]] = {}
    for name, *overrides in given or [[""]]:
        if name in corpora or "=" in name:
            raise ValueError(f"--corpus {name}: wanted another name for each, before key=value.")
        corpora[name] = overrides
    return corpora


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
    arguments.runs = name_runs(arguments.run, [RANDOM])
    arguments.corpora = name_corpora(arguments.corpus)
    arguments.out.mkdir(parents=True, exist_ok=True)
    check_same_comparison(arguments)
    first = arguments.seeds[0]
    search = {}
    for corpus in arguments.corpora:
        for minutes in arguments.minutes:
            for start in (RANDOM, *arguments.runs):
                rates = arguments.random_lrs if start == RANDOM else arguments.pretrained_lrs
                case = Job(corpus, minutes, start)
                search[case] = [replace(case, learning_rate=rate, seed=first) for rate in rates]
    train_all((job for jobs in search.values() for job in jobs), arguments, "learning rates")
    best = {
        case: min(jobs, key=lambda job: finished_word_error_rate(job, "val", arguments))
        for case, jobs in search.items()
    }
    repeated = {
        case: [replace(job, seed=seed) for seed in arguments.seeds] for case, job in best.items()
    }
    train_all((job for jobs in repeated.values() for job in jobs), arguments, "seeds")
    print_search(search, best, arguments)
    values = {
        case: [finished_word_error_rate(job, "test", arguments) for job in jobs]
        for case, jobs in repeated.items()
    }
    print_table(values, best, arguments)
    print_differences(values)


def print_search(search: dict, best: dict, arguments: argparse.Namespace) -> None:
    """Print the validation WER of each learning rate with the first seed."""
    print("\nvalidation WER in % by learning rate, first seed")
    for case, jobs in search.items():
        values = [finished_word_error_rate(job, "val", arguments) for job in jobs]
        shown = "  ".join(
            f"{job.learning_rate:g}: {value:.1f}" for job, value in zip(jobs, values, strict=True)
        )
        rates = [job.learning_rate for job in jobs]
        outer = len(rates) > 1 and best[case].learning_rate in (min(rates), max(rates))
        note = "  (the best is the outermost: try further ones)" if outer else ""
        print(f"{case.data:>7}  {case.start:<11} {shown}{note}")


def print_table(
    values: Mapping[Job, list[float]], best: Mapping[Job, Job], arguments: argparse.Namespace
) -> None:
    """Print the test WER of each start, and the relative error reduction by pretraining.

    Args:
        values: WER of each seed, by case.
        best: the job of each case with the chosen learning rate.
        arguments: of the command line.
    """
    print(f"\ntest WER in %, {arguments.steps} steps, seeds {arguments.seeds}")
    columns = ["labelled minutes", "start", "learning rate", "WER of each seed"]
    columns += ["mean", "std", "error reduction"]
    named = any(case.corpus for case in values)
    columns = ["corpus", *columns] if named else columns
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for case, own in values.items():
        mean = statistics.mean(own)
        deviation = statistics.stdev(own) if len(own) > 1 else 0.0
        baseline = statistics.mean(values[replace(case, start=RANDOM)])
        reduced = f"{100 * (1 - mean / baseline):.0f} %" if case.start != RANDOM else ""
        shown = ", ".join(f"{value:.1f}" for value in own)
        cells = [case.corpus] if named else []
        cells += [f"{case.minutes:g}", case.start, f"{best[case].learning_rate:g}", shown]
        print(f"| {' | '.join([*cells, f'{mean:.1f}', f'{deviation:.1f}', reduced])} |")


def print_differences(values: Mapping[Job, list[float]]) -> None:
    """Print for each two starts whether their difference is larger than the spread of the seeds.

    Args:
        values: WER of each seed, by case.
    """
    print("\ndifferences of mean test WER in points; the spread is the larger range of the seeds")
    for one, other in combinations(values, 2):
        if one.data == other.data:
            print(f"{one.data:>7}  {other.start} - {one.start}: ", end="")
            print(difference(values[other], values[one]))


def difference(own: list[float], baseline: list[float]) -> str:
    """The difference of two means, compared with the spread of the seeds.

    Args:
        own: WER of each seed.
        baseline: WER of each seed of the other start.

    Returns:
        A line with the difference, the spread, and p of Welch's t-test unless the seeds of a start
        have the same WER.
    """
    value = statistics.mean(own) - statistics.mean(baseline)
    if len(own) < 2:
        return f"{value:+.1f}; one seed doesn't tell the spread"
    ranges = [max(seeds) - min(seeds) for seeds in (own, baseline)]
    spread = max(ranges)
    text = f"{value:+.1f}, {'more' if abs(value) > spread else 'not more'} than {spread:.1f}"
    if min(ranges) < SMALLEST_RANGE:
        return text
    p = float(ttest_ind(own, baseline, equal_var=False).pvalue)
    return f"{text} (Welch's t-test: p = {p:.2g})"


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "run", nargs="+", help="pretrained run, also of the hub, or .nemo file; or NAME=RUN"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/starts"), help="output folder")
    parser.add_argument(
        "--minutes", type=float, nargs="+", default=[3, 10], help="of labelled speech"
    )
    parser.add_argument("--steps", type=int, default=1000, help="optimisation steps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one training each")
    parser.add_argument(
        "--corpus",
        nargs="+",
        action="append",
        metavar=("NAME", "key=value"),
        help="a labelled corpus, its name and overrides; may be repeated",
    )
    for option, start in (("--random-lrs", RANDOM), ("--pretrained-lrs", "pretrained")):
        text, default = f"learning rates to try from {start} weights", LEARNING_RATES[start]
        parser.add_argument(option, type=float, nargs="+", default=default, help=text)
    parser.add_argument("--parallel", type=int, default=2, help="trainings in parallel")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each training")
    parser.add_argument(
        "--overrides", nargs="*", default=[], help="key=value, passed to every training"
    )
    text = "key=value, passed to every fine-tuning"
    parser.add_argument("--pretrained-overrides", nargs="*", default=[], help=text)
    run_command(lambda: compare(parser.parse_args()))


if __name__ == "__main__":
    main()
