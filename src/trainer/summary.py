"""The values of all evaluations in one table."""

import csv
from pathlib import Path

from src.utils.columns import in_columns
from src.utils.files import write_beside

NARROWEST = 12  # characters of a column
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


def metric_names(table: dict[str, Values]) -> list[str]:
    """The metrics of all evaluations, each once."""
    return list(dict.fromkeys(metric for own in table.values() for metric in own))


def summary(values: Values) -> str:
    """A line for each metric, with a column for each evaluation.

    Args:
        values: of `<evaluation>/<metric>`.
    """
    table = by_evaluation(values)
    lines = [["", *table]]
    for metric in metric_names(table):
        shown = (f"{own[metric]:.6g}" if metric in own else "" for own in table.values())
        lines.append([metric, *shown])
    return in_columns(lines, NARROWEST)


def write_results(path: Path, values: Values) -> None:
    """Write a table with a row for each evaluation and a column for each metric.

    Args:
        path: of the file, separated by tabs.
        values: of `<evaluation>/<metric>`.
    """
    table = by_evaluation(values)
    metrics = metric_names(table)
    with write_beside(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["evaluation", *metrics])
        for name, own in table.items():
            writer.writerow([name, *(own.get(metric) for metric in metrics)])
