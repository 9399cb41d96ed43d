"""Writes the page about evaluations: one HTML file that needs nothing but the audio beside it."""

import base64
import hashlib
import json
import math
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup, escape

from src.report.charts import curves, layout
from src.report.collector import files_of
from src.report.facts import Facts
from src.utils.files import write_beside
from src.utils.sections import Chart, Section, Table

Row = dict[str, Any]

CONFIG = re.compile("(?<=<summary>YAML</summary><pre>).*?(?=</pre>)", re.DOTALL)
DATA = re.compile('(?<=<script type="application/json" id="data">).*?(?=</script>)', re.DOTALL)
PAGE = "report.html"
AUDIO = "report_audio"  # holds a folder for each evaluation, with files of these kinds
MEDIA = (".flac", ".png")
SPECIAL = ("audio", "picture", "words")  # details that are no columns

# Everything is escaped, whatever the template is called.
ENVIRONMENT = Environment(
    loader=PackageLoader("src.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
SEPARATORS = (",", ":")
ENVIRONMENT.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": SEPARATORS}


@dataclass(frozen=True)
class EvaluationReport:
    """What the page shows of one evaluation.

    Attributes:
        name: of the evaluation.
        values: metric -> value.
        further: those of them that are shown on request only.
        rows: the table of utterances, worst first, with their details, see `Collector`.
        alignments: of each row, column of a hypothesis -> its alignment with the reference.
        sections: tables and charts.
        folder: of audio and pictures, relative to the page, with a slash at its end.
        note: what a reader must know about the values.
    """

    name: str
    values: dict[str, float]
    further: Collection[str]
    rows: list[Row]
    alignments: list[dict[str, list]]
    sections: list[Section]
    folder: str
    note: str = ""


def write_page(path: Path, facts: Facts, evaluations: list[EvaluationReport]) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        facts: about the run.
        evaluations: shown in this order.
    """
    script, style = (read_template(f"page.{ending}") for ending in ("js", "css"))
    html = ENVIRONMENT.get_template("page.html").render(
        facts=facts,
        curves=drawn(curves(facts.metrics)),
        evaluations=[overview(evaluation) for evaluation in evaluations],
        overview=finite_json(results(evaluations)),
        data=finite_json([data_of(evaluation) for evaluation in evaluations]),
        script=Markup(script),
        style=Markup(style),
        policy=policy(script, style),
    )
    with write_beside(path) as beside:
        beside.write_text(html, encoding="utf-8", errors="backslashreplace")


def read_page(path: Path) -> list[dict[str, Any]]:
    """The data of the evaluations on a page, as `data_of` made them.

    Args:
        path: of the HTML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't such a page.
    """
    data = DATA.search(path.read_text(encoding="utf-8", errors="replace"))
    if not data:
        raise ValueError(f"{path}: not a report.")
    return json.loads(data[0])


def copy_page(page: Path, folder: Path, config: str, audio: bool) -> None:
    """Copy a page for others: with another config, and perhaps without players and pictures.

    Args:
        page: that `write_page` wrote.
        folder: to create.
        config: YAML that replaces the page's.
        audio: whether players and pictures are copied, too.

    Raises:
        FileNotFoundError: a file that the page needs is missing.
        ValueError: it isn't such a page, or needs files elsewhere.
    """
    html = page.read_text(encoding="utf-8")
    data = DATA.search(html)
    html, configs = CONFIG.subn(lambda _: str(escape(config)), html)
    try:
        evaluations: Any = json.loads(data[0]) if data and configs == 1 else None
        extras = [(one["folder"], extra) for one in evaluations for extra in one["extras"]]
        if not audio:
            for _, extra in extras:
                extra.pop("audio", None)
                extra.pop("picture", None)
        files = [own + name for own, extra in extras for name in files_of(extra)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(f"{page}: not a report of this version; evaluate the run again.") from None
    folder.mkdir()
    for name in files:
        source = (page.parent / name).resolve()
        if not source.is_relative_to(page.parent.resolve()) or source.suffix not in MEDIA:
            raise ValueError(f"{page}: shows {name}, which isn't a part of it.")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    text = str(htmlsafe_json_dumps(evaluations, separators=SEPARATORS))
    (folder / page.name).write_text(DATA.sub(lambda _: text, html), encoding="utf-8")


def read_template(name: str) -> str:
    """The text of a file among the templates, which is put into the page as it is."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def policy(script: str, style: str) -> str:
    """Content security policy by which only this script runs, and only files beside are loaded."""
    digests = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (script, style)
    ]
    return (
        f"default-src 'none'; script-src 'sha256-{digests[0]}'; style-src 'sha256-{digests[1]}'; "
        "img-src 'self' file:; media-src 'self' file:; base-uri 'none'; form-action 'none'"
    )


def overview(evaluation: EvaluationReport) -> dict[str, Any]:
    """What the template writes about an evaluation itself; the rest is left to the script."""
    seconds = [row["seconds"] for row in evaluation.rows if "seconds" in row]
    return {
        "name": evaluation.name,
        "values": {k: v for k, v in evaluation.values.items() if k not in evaluation.further},
        "further": {k: v for k, v in evaluation.values.items() if k in evaluation.further},
        "count": len(evaluation.rows),
        "note": evaluation.note,
        "hours": sum(seconds) / 3600 if seconds else None,
        "charts": drawn([one for one in evaluation.sections if isinstance(one, Chart)]),
    }


def results(evaluations: list[EvaluationReport]) -> dict[str, Any]:
    """The table of several evaluations: their main values side by side."""
    shown = [
        {"evaluation": one.name, "utterances": len(one.rows)}
        | {key: value for key, value in one.values.items() if key not in one.further}
        for one in evaluations
    ]
    columns = list(dict.fromkeys(key for row in shown for key in row))
    rows = [[row.get(column) for column in columns] for row in shown]
    return {"title": "All evaluations", "columns": columns, "rows": rows, "note": ""}


def drawn(charts: list[Chart]) -> list[dict[str, Any]]:
    """The layouts of the charts that have something to show."""
    return [one for one in map(layout, charts) if one is not None]


def data_of(evaluation: EvaluationReport) -> dict[str, Any]:
    """What the script shows: columns, rows as lists, files, alignments and tables."""
    columns = list(
        dict.fromkeys(
            key
            for row in evaluation.rows
            for key in row
            if key not in SPECIAL and not key.startswith("_")
        )
    )
    extras = [
        {key: row[key] for key in SPECIAL if row.get(key)} | ({"alignments": own} if own else {})
        for row, own in zip(evaluation.rows, evaluation.alignments, strict=True)
    ]
    return {
        "name": evaluation.name,
        "folder": evaluation.folder,
        "columns": columns,
        "rows": [[row.get(column) for column in columns] for row in evaluation.rows],
        "extras": extras,
        "tables": [
            {"title": one.title, "columns": one.columns, "rows": one.rows, "note": one.note}
            for one in evaluation.sections
            if isinstance(one, Table)
        ],
    }


def finite_json(value: Any) -> Any:
    """A value of which JSON can hold every number: rounded, and `Infinity`, `NaN` as text."""
    if isinstance(value, dict):
        return {key: finite_json(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(own) for own in value]
    if isinstance(value, float):
        if math.isfinite(value):
            return round(value, 5)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
