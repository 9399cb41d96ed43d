"""The page: what it holds, and that nothing which it shows becomes markup."""

import json
import math
import re

import pytest
import torch
from omegaconf import OmegaConf

from src.report.charts import HEIGHT, WIDTH, curves, layout, ticks
from src.report.facts import Facts, facts_of_run
from src.report.page import EvaluationReport, finite_json, policy, read_template, write_page
from src.utils.sections import Chart, Table
from tests.report.pages import EVIL, evil_report


def written(path, *evaluations, **facts):
    write_page(path, Facts(**({"name": "run", "config": "a: 1\n"} | facts)), list(evaluations))
    return path.read_text(encoding="utf-8")


def data_in(html):
    return json.loads(html.partition('id="data">')[2].partition("</script>")[0])


def test_everything_is_escaped(tmp_path):
    facts = {"name": EVIL, "config": f"a: '{EVIL}'", "commit": EVIL}
    facts["metrics"] = [{"step": step, f"{EVIL}/{EVIL}": float(step)} for step in (1, 2)]
    html = written(tmp_path / "report.html", evil_report(), **facts)
    assert "<img" not in html.replace(read_template("page.js"), "")
    assert html.count("<script") == html.count("</script>") == 3
    (data,) = data_in(html)
    assert EVIL in data["rows"][0] and data["tables"][0]["rows"] == [[EVIL, 1]]
    assert data["extras"][0]["alignments"] == {"prediction": [["substitute", EVIL, EVIL]]}


def test_policy_allows_the_scripts_of_the_page_only(tmp_path):
    html = written(tmp_path / "report.html")
    script, style = read_template("page.js"), read_template("page.css")
    assert f"<script>{script}</script>" in html and f"<style>{style}</style>" in html
    rule = re.search(r'Policy" content="([^"]*)"', html)[1].replace("&#39;", "'")
    assert rule == policy(script, style) and "unsafe" not in rule
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", html)


def test_rows_and_numbers_that_json_does_not_have(tmp_path):
    rows = [
        {"id": "a", "WER": math.inf, "seconds": 1.0, "audio": [{"title": "audio", "file": "a"}]},
        {"id": "b", "WER": 1 / 3, "note": "x", "_codes": {1: 2}},
    ]
    sections = [Table("t", ["x"], [[math.nan]]), Chart("empty", "x", "y", {"s": [(0, math.inf)]})]
    report = EvaluationReport("test", {"WER": math.inf}, (), rows, [{}, {}], sections, "audio/")
    (data,) = data_in(written(tmp_path / "report.html", report))
    assert data["columns"] == ["id", "WER", "seconds", "note"]
    assert data["rows"] == [["a", "Infinity", 1.0, None], ["b", 0.33333, None, "x"]]
    assert data["extras"] == [{"audio": rows[0]["audio"]}, {}]
    assert data["tables"][0]["rows"] == [["NaN"]]
    assert finite_json([-math.inf, 1, None, True]) == ["-Infinity", 1, None, True]


def test_text_that_is_no_unicode(tmp_path):
    html = written(tmp_path / "report.html", name="a\udcff")
    assert "a\\udcff" in html


@pytest.mark.parametrize("low, high", [(0, 1), (-3.2, 7.9), (0.00031, 0.00042), (2e6, 9e6)])
def test_ticks(low, high):
    values = ticks(low, high)
    assert 3 <= len(values) <= 11
    assert all(low <= value <= high for value in values)


def test_points_lie_in_the_plot():
    chart = Chart("t", "x", "y", {"a": [(0, 1), (5, 3), (2, math.nan)], "b": [(7, 7)]})
    drawn = layout(chart)
    numbers = re.findall(r"M([\d.]+) ([\d.]+)h0", "".join(path for _, _, path in drawn["series"]))
    assert len(numbers) == 3
    assert all(0 < float(x) < WIDTH and 0 < float(y) < HEIGHT for x, y in numbers)
    assert layout(Chart("t", "x", "y", {"a": [(1, math.nan)]})) is None


def test_curves():
    rows = [
        {"step": 1, "train/loss": 3.0, "train/lr": 0.1},
        {"step": 2, "train/loss": 2.0, "train/lr": 0.1, "val/loss": 4.0, "note": "x"},
        {"train/loss": 1.0},
    ]
    (chart,) = curves(rows)
    assert chart.series == {"train": [(1, 3.0), (2, 2.0)], "val": [(2, 4.0)]}


def test_facts_of_a_damaged_run(tmp_path):
    (tmp_path / "data.json").write_text('{"hours": 1}')
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nbroken\n{"step": 2}\n')
    facts = facts_of_run(tmp_path, OmegaConf.create({"a": 1}), torch.nn.Linear(2, 3))
    assert facts.trained_on == {} and facts.parameters == 9 and facts.config == "a: 1\n"
    assert [row["step"] for row in facts.metrics] == [1, 2]
