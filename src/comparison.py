"""Comparison of runs that were evaluated on the same utterances; computes, and prints nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from src.config import target_class
from src.datasets.tables import cell, check_columns, read_table
from src.loaded_config import dotted, entries, read_config
from src.metrics.base import Metric
from src.metrics.bootstrap import Difference, Interval, paired_bootstrap
from src.report.results import metrics_of
from src.run import open_source
from src.utils.audio_files import check_file
from src.utils.options import shown

# Keys of a config that differ between any two runs.
PLACES = ("run", "run_dir", "runs", "next_command")


@dataclass(frozen=True)
class Evaluated:
    """What an inference wrote about a run and a set.

    Attributes:
        folder: that it wrote to.
        config: that the results came about by.
        rows: id -> the cells of the utterance's row in the table.
        metrics: those that have a score for each utterance and know which scores are better.
    """

    folder: Path
    config: DictConfig
    rows: dict[str, dict[str, str]]
    metrics: dict[str, Metric]


@dataclass(frozen=True)
class ComparedMetric:
    """A metric of all runs on the utterances that have a score in each of them.

    Attributes:
        name: of the metric.
        higher_is_better: whether larger values are better.
        normalization: of the texts that were scored; empty for a metric without texts.
        ids: of the N utterances.
        numerators, denominators: of each run and utterance, [R, N].
        values: of each run.
        differences: of each run, from the first; None of the first one itself.
    """

    name: str
    higher_is_better: bool
    normalization: str
    ids: list[str]
    numerators: np.ndarray
    denominators: np.ndarray
    values: list[Interval]
    differences: list[Difference | None]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: as they were read.
        ids: of the utterances that all of them have.
        speakers: number of speakers that were drawn; None: utterances were.
        changed: ids of utterances whose references differ between runs.
        metrics: those of all runs.
        configs: (key, the value of each run) of what differs.
    """

    runs: list[Evaluated]
    ids: list[str]
    speakers: int | None
    changed: list[str]
    metrics: list[ComparedMetric]
    configs: list[tuple[str, list[Any]]]


def name_runs(given: Iterable[str], taken: Sequence[str] = ()) -> dict[str, Path]:
    """Runs by the names that a table has for them.

    Args:
        given: RUN, whose name is that of its folder or .nemo file, or NAME=RUN.
        taken: names that are given already.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: two have the same name.
    """
    runs: dict[str, Path] = {}
    for text in given:
        name, _, place = ("", "", text) if Path(text).exists() else text.rpartition("=")
        path = open_source(Path(place)).path.resolve()
        name = name or Path(place).name.removesuffix(".nemo") or path.name
        if name in (*taken, *runs):
            raise ValueError(f"{text}: another one is called {name}, too; wanted NAME={place}.")
        runs[name] = path
    return runs


def read_evaluated(folder: Path, name: str, trusted: Sequence[str] = ()) -> Evaluated:
    """Read what `inference.py` wrote about a set.

    Args:
        folder: its output folder.
        name: of the set.
        trusted: packages besides this one and torch whose classes the config may name.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: the table or its config is damaged, or there are no scores.
    """
    path = folder / f"{name}.tsv"
    check_file(path, "table of utterances")
    source = path.with_suffix(".yaml")
    if not source.exists():
        raise FileNotFoundError(f"{source}: missing; run inference.py again, which writes it.")
    table = read_table(path, "\t")
    check_columns(path, table, ("id",))
    rows = {cell(path, row, "id"): row for row in table}
    if len(rows) < len(table):
        raise ValueError(f"{path}: {len(table) - len(rows)} ids occur more than once.")
    config = read_config(source, trusted)
    return Evaluated(folder, config, rows, scored_metrics(config, name, table[0], path))


def scored_metrics(config: DictConfig, name: str, row: dict, path: Path) -> dict[str, Metric]:
    """The metrics of an evaluation that have a column in its table, and a direction.

    Raises:
        ValueError: there is none.
    """
    scored = {
        key: metric
        for key, metric in metrics_of(config, name).items()
        if key in row and metric.higher_is_better is not None
    }
    if not scored:
        raise ValueError(f"{path}: has no scores to compare; it was made without references.")
    return scored


def compare(
    runs: list[Evaluated], draws: int = 10_000, seed: int = 0, common: bool = False
) -> Comparison:
    """Compare runs with the first of them.

    Args:
        runs: at least two, of one task and evaluated on the same utterances.
        draws: of the bootstrap.
        seed: of the draws.
        common: whether utterances that not all runs have are left out.

    Raises:
        ValueError: the runs have other tasks, utterances or metrics.
    """
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run to compare; name at least two.")
    check_tasks([(run.folder, run.config) for run in runs])
    ids = common_ids(runs, common)
    changed = changed_references(runs, ids)
    names = [name for name in runs[0].metrics if all(name in run.metrics for run in runs)]
    if not names:
        own = " and ".join(", ".join(run.metrics) for run in runs)
        raise ValueError(f"The runs have no metric in common: {own}.")
    check_normalizations(runs, names)
    speakers = {name: runs[0].rows[name].get("speaker") or "" for name in ids}
    known = speakers if all(speakers.values()) and len(set(speakers.values())) > 1 else None
    return Comparison(
        runs,
        ids,
        None if known is None else len(set(known.values())),
        changed,
        [compare_metric(name, runs, ids, known, draws, seed) for name in names],
        config_differences([run.config for run in runs], [commit(run) for run in runs]),
    )


def check_tasks(configs: Sequence[tuple[Path, DictConfig]]) -> None:
    """Raise unless all runs have the task of the first one.

    Args:
        configs: of runs, each after the run's place.

    Raises:
        ValueError: one hasn't; names both.
    """
    names = [target_class(config, "task").name for _, config in configs]
    for (place, _), name in zip(configs, names, strict=True):
        if name != names[0]:
            raise ValueError(
                f"{place}: a run of {name}; one of {names[0]}, as {configs[0][0]}, is needed."
            )


def check_normalizations(runs: list[Evaluated], names: list[str]) -> None:
    """Raise unless all runs compute each metric from texts that are normalised in the same way.

    Raises:
        ValueError: one doesn't; names the metric and both.
    """
    for name in names:
        first = runs[0].metrics[name].normalization
        for run in runs[1:]:
            other = run.metrics[name].normalization
            if other != first:
                raise ValueError(
                    f"{name}: scored with normalization '{first}' in {runs[0].folder}, and "
                    f"'{other}' in {run.folder}."
                )


def common_ids(runs: list[Evaluated], common: bool) -> list[str]:
    """Ids of the utterances that all runs have, in the order of the first.

    Raises:
        ValueError: there are none, or another run has others although `common` is false.
    """
    ids = [name for name in runs[0].rows if all(name in run.rows for run in runs)]
    for run in runs:
        if not ids or (len(run.rows) != len(ids) and not common):
            sizes = " and ".join(str(len(run.rows)) for run in runs)
            advice = "; --common compares these" if ids else ""
            raise ValueError(
                f"The runs were evaluated on different test sets: of {sizes} utterances they "
                f"share {len(ids)}{advice}."
            )
    return ids


def changed_references(runs: list[Evaluated], ids: list[str]) -> list[str]:
    """Ids of utterances whose references differ, other than in case and punctuation.

    Some may have been corrected, or be normalised differently.

    Raises:
        ValueError: they are more than half, so that it isn't the same test set.
    """
    references = [[letters(run.rows[name].get("target")) for name in ids] for run in runs]
    changed = [name for name, *texts in zip(ids, *references, strict=True) if len(set(texts)) > 1]
    if 2 * len(changed) > len(ids):
        texts = " and ".join(shown(run.rows[changed[0]].get("target")) for run in runs)
        raise ValueError(
            f"The runs were evaluated on different test sets: {changed[0]} is {texts}."
        )
    return changed


def letters(text: str | None) -> str:
    """The letters and digits of a text in lower case."""
    return "".join(c for c in (text or "").lower() if c.isalnum())


def compare_metric(
    name: str,
    runs: list[Evaluated],
    ids: list[str],
    speakers: dict[str, str] | None,
    draws: int,
    seed: int,
) -> ComparedMetric:
    """Compare the values of a metric.

    Args:
        name: of the metric.
        runs: that all have it.
        ids: of the utterances.
        speakers: of each utterance, by id; None: unknown.
        draws: of the bootstrap.
        seed: of the draws.

    Raises:
        ValueError: a score is no number, or less than two utterances have one.
    """
    ids = [one for one in ids if all(run.rows[one].get(name) for run in runs)]
    pairs = np.array([[fraction(run, name, one) for one in ids] for run in runs], dtype=np.float64)
    numerators, denominators = pairs.reshape(len(runs), len(ids), 2).transpose(2, 0, 1)
    members = None if speakers is None else [speakers[one] for one in ids]
    try:
        bootstrap = paired_bootstrap(numerators, denominators, members, draws, seed)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    others = range(1, len(runs))
    return ComparedMetric(
        name,
        bool(runs[0].metrics[name].higher_is_better),
        runs[0].metrics[name].normalization,
        ids,
        numerators,
        denominators,
        [bootstrap.interval(i) for i in range(len(runs))],
        [None, *(bootstrap.difference(0, i) for i in others)],
    )


def fraction(run: Evaluated, metric: str, name: str) -> tuple[float, float]:
    """Numerator and denominator of an utterance in the value of a metric.

    Raises:
        ValueError: its score is no number, or a column is missing; names the utterance.
    """
    row = run.rows[name]
    try:
        value = run.metrics[metric].fraction(float(row[metric]), row)
        if not np.isfinite(value).all():
            raise ValueError(f"{metric} is {row[metric]}.")
    except ValueError as error:
        raise ValueError(f"{run.folder}, utterance {name}: {error}") from None
    return value


def largest_differences(metric: ComparedMetric, run: int, most: int) -> list[str]:
    """Ids of the utterances in which a run differs most from the first one, by numerator.

    Args:
        metric: whose numerators are meant: errors, scores.
        run: index of the run.
        most: how many at most; those without a difference are left out.
    """
    sizes = np.abs(metric.numerators[run] - metric.numerators[0])
    order = np.argsort(-sizes, kind="stable")[:most]
    return [metric.ids[i] for i in order if sizes[i] > 0]


def config_differences(
    configs: list[DictConfig], commits: list[str | None]
) -> list[tuple[str, list[Any]]]:
    """(key, the value of each config) of every key whose values differ; `-` where it is missing.

    Args:
        configs: of the runs.
        commits: of the code that each run was trained with; None where it isn't known.
    """
    flat = [
        {"git commit": name or "-"} | leaves(config)
        for config, name in zip(configs, commits, strict=True)
    ]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [(key, [one.get(key, "-") for one in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(map(repr, values))) > 1]


def leaves(config: DictConfig) -> dict[str, Any]:
    """Dotted key -> single value of a config, without its places on disk."""
    values = entries(OmegaConf.to_container(config, resolve=True))
    return {
        dotted(place): value
        for place, value in values
        if place[0] not in PLACES and (not isinstance(value, dict | list) or not value)
    }


def commit(run: Evaluated) -> str | None:
    """The commit of the code that a run was trained with, if it can be read."""
    path = Path(str(run.config.get("run", ""))) / "git_commit.txt"
    try:
        return path.read_text(encoding="utf-8").strip()[:12] or None
    except (OSError, ValueError):
        return None
