"""The values of all evaluations in one table."""

import csv
from pathlib import Path

from src.utils.files import write_beside

Values = dict[str, float]  # of `<evaluation>/<metric>`


def by_evaluation(values: Values) -> dict[str, Values]:
    """Evaluation -> metric -> value.

    Args:
        values: of `<evaluation>/<metric>`.
    """
    table: dict[str, Values] = {}
    for key, value in values.items():
        name, _, metric = key.partition("/")
        table.setdefault(name, {})[metric] = value
    return table


def metrics_of(table: dict[str, Values]) -> list[str]:
    """The metrics of all evaluations, each once."""
    return list(dict.fromkeys(metric for own in table.values() for metric in own))


def summary(values: Values) -> str:
    """A line for each metric, with a column for each evaluation.

    Args:
        values: of `<evaluation>/<metric>`.
    """
    table = by_evaluation(values)
    lines = [["", *table]]
    for metric in metrics_of(table):
        shown = (f"{own[metric]:.6g}" if metric in own else "" for own in table.values())
        lines.append([metric, *shown])
    widths = [max(12, *map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def write_results(path: Path, values: Values) -> None:
    """Write a table with a row for each evaluation and a column for each metric.

    Args:
        path: of the file, separated by tabs.
        values: of `<evaluation>/<metric>`.
    """
    table = by_evaluation(values)
    metrics = metrics_of(table)
    with write_beside(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["evaluation", *metrics])
        for name, own in table.items():
            writer.writerow([name, *(own.get(metric) for metric in metrics)])
