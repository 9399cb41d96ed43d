"""The page about a comparison of runs."""

import logging
import shutil
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from src.comparison import ComparedMetric, Comparison, Evaluated, largest_differences
from src.report.facts import Facts
from src.report.page import AUDIO, MEDIA, PAGE, EvaluationReport, read_page, write_page
from src.tasks.error_analysis import is_hypothesis, word_alignment
from src.utils.sections import Chart, Section, Table

logger = logging.getLogger(__name__)

LISTENED = 50  # utterances with players at most
DIFFERENCE_COLUMNS = ("difference from A", "difference low", "difference high", "p")
METRIC_COLUMNS = ["metric", "run", "value", "low", "high", *DIFFERENCE_COLUMNS]
Row = dict[str, Any]


def write_comparison(path: Path, comparison: Comparison, metric: ComparedMetric, name: str) -> None:
    """Write a page with the tables of a comparison, and its utterances, those that differ first.

    Their audio is copied from the reports of the runs, as far as it is there, to a folder
    `<page>_audio` beside the page.

    Args:
        path: of the HTML file.
        comparison: of the runs.
        metric: by which the utterances are sorted.
        name: of the set that the runs were evaluated on.
    """
    folder = path.with_name(f"{path.stem}_audio")
    rows = utterances(comparison, metric)
    players = [players_of(run, name) for run in comparison.runs]
    listened = 0
    for row in rows:
        if listened < LISTENED and (audio := copy_players(players, row["id"], folder)):
            row["audio"] = audio
            listened += 1
    report = EvaluationReport(
        name=f"{name}: {metric.name}",
        values={f"{metric.name} {letter}": value.value for letter, value in lettered(metric)},
        further=(),
        rows=rows,
        alignments=[alignments(row) for row in rows],
        sections=sections(comparison, metric),
        folder=f"{folder.name}/",
    )
    title = ", ".join(
        f"{letter} {run.folder}"
        for letter, run in zip(ascii_uppercase, comparison.runs, strict=False)
    )
    write_page(path, Facts(title), [report])


def lettered(metric: ComparedMetric) -> list[tuple[str, Any]]:
    """(letter, value) of each run."""
    return list(zip(ascii_uppercase, metric.values, strict=False))


def utterances(comparison: Comparison, metric: ComparedMetric) -> list[Row]:
    """Rows of the page: score and outputs of every run, the largest difference from A first.

    Args:
        comparison: of the runs.
        metric: which is shown.
    """
    first = [largest_differences(metric, i, len(metric.ids)) for i in range(1, len(metric.values))]
    places = [{one: place for place, one in enumerate(order)} for order in first]
    last = len(metric.ids)
    ids = sorted(metric.ids, key=lambda one: min(own.get(one, last) for own in places))
    return [utterance(one, comparison.runs, metric) for one in ids]


def utterance(name: str, runs: list[Evaluated], metric: ComparedMetric) -> Row:
    """The row of an utterance: its scores, and for each run the texts that the metric reads."""
    row: Row = {"id": name}
    for letter, run in zip(ascii_uppercase, runs, strict=False):
        cells, columns = run.rows[name], run.metrics[metric.name].columns
        row[f"{metric.name} {letter}"] = float(cells[metric.name])
        if speaker := cells.get("speaker"):
            row.setdefault("speaker", speaker)
        if columns and is_hypothesis(columns[-1]):
            row.setdefault("target", cells[columns[0]])
            row[f"prediction {letter}"] = cells[columns[-1]]
    return row


def alignments(row: Row) -> dict[str, list[list[str]]]:
    """The words of each run's hypothesis, aligned with the reference."""
    columns = [column for column in row if column.startswith("prediction ")]
    return {column: word_alignment(row["target"], row[column]) for column in columns}


def sections(comparison: Comparison, metric: ComparedMetric) -> list[Section]:
    """Tables of all metrics and of the configs, and the scores of A against those of the others."""
    drawn = f"{comparison.speakers} speakers" if comparison.speakers else "utterances"
    values = []
    for one in comparison.metrics:
        for (letter, value), d in zip(lettered(one), one.differences, strict=True):
            own = [None] * 4 if d is None else [d.value, d.low, d.high, d.p]
            values.append([one.name, letter, value.value, value.low, value.high, *own])
    letters = [letter for letter, _ in lettered(metric)]
    configs = [[key, *map(str, own)] for key, own in comparison.configs]
    runs = comparison.runs
    scores = [[float(run.rows[one][metric.name]) for one in metric.ids] for run in runs]
    series = {
        letter: list(zip(scores[0], own, strict=True))
        for letter, own in zip(letters[1:], scores[1:], strict=True)
    }
    note = f"95 % intervals and p-values of a paired bootstrap over {drawn}."
    return [
        Table("Metrics", METRIC_COLUMNS, values, note),
        Table("Configs", ["key", *letters], configs, "Only what differs."),
        Chart("Scores of utterances", f"{metric.name} of A", f"{metric.name}", series),
    ]


def players_of(run: Evaluated, name: str) -> dict[str, tuple[Path, list[dict[str, str]]]]:
    """Utterance -> folder and players in the report of a run; empty where there is none."""
    page = run.folder / PAGE
    try:
        data = next(one for one in read_page(page) if one["name"] == name)
        folder, index = run.folder / AUDIO / name, data["columns"].index("id")
        pairs = zip(data["rows"], data["extras"], strict=True)
        audio = {row[index]: own["audio"] for row, own in pairs if own.get("audio")}
        return {one: (folder, [checked(player) for player in own]) for one, own in audio.items()}
    except FileNotFoundError:
        return {}
    except (StopIteration, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        logger.warning("%s: not readable; the page has no audio from it.", page)
        return {}


def checked(player: dict[str, Any]) -> dict[str, str]:
    """A player of a page, with the names of its files in their folder.

    Raises:
        ValueError: it names another kind of file.
    """
    files = {key: Path(str(player[key])) for key in ("file", "spectrogram") if key in player}
    if any(path.suffix not in MEDIA for path in files.values()):
        raise ValueError(f"{player}: no audio.")
    return {"title": str(player["title"])} | {key: path.name for key, path in files.items()}


def copy_players(players: list[dict], name: str, target: Path) -> list[dict[str, str]]:
    """Copy the audio of an utterance; what all runs have in common is taken once.

    Args:
        players: of each run, from `players_of`.
        name: of the utterance.
        target: folder to copy to; made if needed.

    Returns:
        The players, whose files lie in `target`.
    """
    copied: list[dict[str, str]] = []
    for letter, own in zip(ascii_uppercase, players, strict=False):
        folder, shown = own.get(name, (None, []))
        for player in shown:
            estimate = player["title"].startswith("estimate")
            title = f"{player['title']} {letter}" if estimate else player["title"]
            if any(one["title"] == title for one in copied):
                continue
            files = {key: player[key] for key in ("file", "spectrogram") if key in player}
            if not all((folder / file).is_file() for file in files.values()):
                continue
            target.mkdir(parents=True, exist_ok=True)
            for key, file in files.items():
                files[key] = f"{letter}_{file}"
                shutil.copyfile(folder / file, target / files[key])
            copied.append({"title": title} | files)
    return copied
