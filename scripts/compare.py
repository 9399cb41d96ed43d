"""Compare runs on the same utterances: python scripts/compare.py RUN RUN ...

Each RUN is the folder of a run, a .nemo file, or a folder that inference.py wrote to (output=...).
The tables of utterances that are there are compared as they are; of a run without one the script
calls inference.py first, with its default options. All runs are compared with the first one, by a
paired bootstrap over speakers, or over utterances where speakers aren't known.
"""

import argparse
import csv
import sys
from pathlib import Path
from string import ascii_uppercase

sys.path.insert(0, str(Path(__file__).parents[1]))

from omegaconf import DictConfig

from inference import infer
from src.comparison import (
    ComparedMetric,
    Comparison,
    Evaluated,
    check_tasks,
    compare,
    largest_differences,
    read_evaluated,
)
from src.comparison_page import write_comparison
from src.config import compose_experiment, target_class
from src.metrics.bootstrap import Difference, Interval
from src.run import OpenedRun, open_source
from src.utils.checkpoint import newest_weights
from src.utils.entry import run_command
from src.utils.files import write_beside
from src.utils.options import check_whole

FEW, FEWEST = 10, 4  # speakers
WIDTH = 60  # characters of a value of a config
COLUMNS = ("value", "low", "high", "difference", "difference_low", "difference_high", "p")


def read_or_evaluate(place: Path, name: str, trusted: list[str]) -> Evaluated:
    """The results of a run on a set, which are made first if there are none.

    Args:
        place: a run, or the output folder of an inference.
        name: of the set.
        trusted: packages besides this one and torch whose classes the run's config may name.
    """
    if (place / f"{name}.tsv").exists():
        return read_evaluated(place, name, trusted)
    run = open_source(place, trusted)
    if not (run.inference_path / f"{name}.tsv").exists():
        task = target_class(run.read_config(), "task")
        if not task.inference:
            raise ValueError(f"{place}: a run of {task.name}; evaluate it with inference.py first.")
        config = compose_experiment(task.inference)
        config.run, config.evaluate_on, config.trust = str(place), [name], trusted
        infer(config)
    elif is_outdated(run.inference_path / f"{name}.tsv", run):
        print(f"{place}: evaluated before its weights were saved; run inference.py again.")
    return read_evaluated(run.inference_path, name, trusted)


def is_outdated(table: Path, run: OpenedRun) -> bool:
    """Whether a table is older than the best weights of its run."""
    weights = newest_weights(run.checkpoint("best"))
    return table.stat().st_mtime < weights.stat().st_mtime


def config_of(place: Path, name: str, trusted: list[str]) -> DictConfig:
    """The config of a run, or of the output folder of an inference."""
    if (place / f"{name}.tsv").exists():
        return read_evaluated(place, name, trusted).config
    return open_source(place, trusted).read_config()


def print_comparison(comparison: Comparison, metric: ComparedMetric, show: int) -> None:
    """Print all tables.

    Args:
        comparison: of the runs.
        metric: whose largest differences are shown.
        show: how many of them for each run.
    """
    runs = comparison.runs
    drawn = f"{comparison.speakers} speakers" if comparison.speakers else "utterances"
    print(f"{len(comparison.ids)} utterances; bootstrap over {drawn}")
    if comparison.speakers and comparison.speakers < FEW:
        print("With so few speakers the intervals are wide, and only approximate.")
    if comparison.speakers and comparison.speakers < FEWEST:
        print("With two or three speakers no difference can be found, however large.")
    if comparison.changed:
        print(f"{len(comparison.changed)} references differ; each run is scored with its own.")
    for name, run in zip(ascii_uppercase, runs, strict=False):
        print(f"  {name}  {run.folder}")
    print_metrics(comparison.metrics)
    normalized: dict[str, list[str]] = {}
    for one in comparison.metrics:
        normalized.setdefault(one.normalization, []).append(one.name)
    for normalization, names in normalized.items():
        if normalization:
            print(f"Normalization of texts: {normalization} ({', '.join(names)})")
    for i in range(1, len(runs)):
        print_utterances(comparison, metric, i, show)
    print_configs(comparison)


def print_metrics(metrics: list[ComparedMetric]) -> None:
    """Print the values of all metrics and runs, and their differences from the first run."""
    size = max(6, *(len(metric.name) for metric in metrics))
    limits = f"{'95 % interval':<18}"
    print(f"\n{'metric':<{size}}    {'value':>8}  {limits}  {'minus A':>8}  {limits}  p")
    for metric in metrics:
        for i, value in enumerate(metric.values):
            name = "" if i else metric.name
            line = f"{name:<{size}}  {ascii_uppercase[i]} {interval_text(value)}"
            print(f"{line}{difference_text(metric, metric.differences[i])}".rstrip())


def difference_text(metric: ComparedMetric, difference: Difference | None) -> str:
    """A difference from the first run, its p-value, and which of the runs is better."""
    if difference is None:
        return ""
    better = (difference.value > 0) == metric.higher_is_better
    verdict = ("better" if better else "worse") if difference.p < 0.05 else "no difference found"
    return f"  {interval_text(difference, '+')}  {difference.p:.4f}  {verdict}"


def interval_text(interval: Interval, sign: str = "") -> str:
    """A value and its limits in columns of fixed width."""
    limits = f"{interval.low:{sign}.4f} {interval.high:{sign}.4f}"
    return f"{interval.value:>{sign}9.4f}  {limits:<18}"


def print_utterances(comparison: Comparison, metric: ComparedMetric, run: int, show: int) -> None:
    """Print the utterances in which a run differs most from the first one."""
    ids = largest_differences(metric, run, show)
    other = ascii_uppercase[run]
    print(f"\nLargest differences in {metric.name} between A and {other}:" + " none" * (not ids))
    for one in ids:
        print(f"  {one}")
        reference = None
        for name, index in (("A", 0), (other, run)):
            row = comparison.runs[index].rows[one]
            columns = comparison.runs[index].metrics[metric.name].columns
            if columns and row[columns[0]] != reference:
                reference = row[columns[0]]
                print(f"     {'':>9}  {reference}")
            print(f"    {name} {row[metric.name]:>9}  {' | '.join(row[c] for c in columns[1:])}")


def print_configs(comparison: Comparison) -> None:
    """Print the keys of the configs whose values differ."""
    print("\nConfigs differ in:" + " nothing" * (not comparison.configs))
    for key, values in comparison.configs:
        print(f"  {key}")
        for name, value in zip(ascii_uppercase, values, strict=False):
            text = str(value)
            print(f"    {name} {text if len(text) <= WIDTH else text[: WIDTH - 3] + '...'}")


def write_csv(path: Path, comparison: Comparison) -> None:
    """Write the values and differences, one line for each metric and run."""
    with write_beside(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["metric", "run", "normalization", "utterances", "speakers", *COLUMNS])
        for metric in comparison.metrics:
            counts = [metric.normalization, len(metric.ids), comparison.speakers]
            for run, value, d in zip(
                comparison.runs, metric.values, metric.differences, strict=True
            ):
                own: list[float | None] = [value.value, value.low, value.high]
                own += [None] * 4 if d is None else [d.value, d.low, d.high, d.p]
                table.writerow([metric.name, run.folder, *counts, *own])


def chosen_metric(comparison: Comparison, name: str | None) -> ComparedMetric:
    """The metric of a name; None: the first one.

    Raises:
        ValueError: there is no such metric.
    """
    metrics = {metric.name: metric for metric in comparison.metrics}
    if name is None:
        return comparison.metrics[0]
    if name not in metrics:
        raise ValueError(f"--metric: '{name}'; {' or '.join(metrics)}.")
    return metrics[name]


def compare_runs(arguments: argparse.Namespace) -> None:
    """Read or evaluate all runs, and print and write their comparison."""
    check_whole("--show", arguments.show, low=0)
    check_whole("--draws", arguments.draws, low=100)
    check_whole("--seed", arguments.seed, low=0)
    if not 2 <= len(arguments.runs) <= len(ascii_uppercase):
        raise ValueError(f"{len(arguments.runs)} runs; 2 to {len(ascii_uppercase)} are compared.")
    # Before any is evaluated, which takes minutes.
    check_tasks([(one, config_of(one, arguments.set, arguments.trust)) for one in arguments.runs])
    runs = [read_or_evaluate(one, arguments.set, arguments.trust) for one in arguments.runs]
    comparison = compare(runs, arguments.draws, arguments.seed, arguments.common)
    metric = chosen_metric(comparison, arguments.metric)
    if arguments.out:
        write_csv(arguments.out, comparison)
    if arguments.page:
        write_comparison(arguments.page, comparison, metric, arguments.set)
    print_comparison(comparison, metric, arguments.show)


def main() -> None:
    """Parse the command line and compare the runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run, .nemo file, or output of inference"
    )
    parser.add_argument("--set", default="test", help="evaluation or dataset (default: test)")
    parser.add_argument("--out", type=Path, help="CSV file for values, differences and p-values")
    parser.add_argument("--page", type=Path, help="HTML file with all utterances, and players")
    parser.add_argument("--metric", help="whose largest differences are shown (default: the first)")
    parser.add_argument("--show", type=int, default=10, help="how many utterances (default: 10)")
    parser.add_argument("--draws", type=int, default=10_000, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument(
        "--common", action="store_true", help="leave out utterances that not all runs have"
    )
    parser.add_argument(
        "--trust", nargs="*", default=[], metavar="PACKAGE", help="that the runs' configs may name"
    )
    arguments = parser.parse_args()
    run_command(lambda: compare_runs(arguments))


if __name__ == "__main__":
    main()
