"""The benchmark command: all rows on tiny sizes, ratios and their spread."""

import json
import sys

import pytest

from scripts import benchmark
from scripts.benchmarks.measuring import OURS, Row


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments)])
    benchmark.main()


def test_all_rows_on_tiny_sizes(monkeypatch, tmp_path, capsys):
    path = tmp_path / "speed.json"
    run(monkeypatch, "--quick", "--threads", 1, "--out", path)
    result = json.loads(path.read_text())
    names = [row["name"] for row in result["rows"]]
    kinds = (
        "DeepSpeech2",
        "NEST",
        "FastConformer",
        "MossFormer2",
        "Greedy",
        "Beam",
        "Shards, cold",
        "Shards, warm",
    )
    assert all(any(name.startswith(kind) for name in names) for kind in kinds)
    for row in result["rows"]:
        assert row["seconds"][OURS] > 0 and row["matrix_gflops"]["low"] > 0
        assert len(row["seconds"]) > 1 or row["note"]
    first = result["rows"][0]
    ratio = first["ratios"]["deepspeech.pytorch"]
    assert ratio["low"] <= ratio["median"] <= ratio["high"]
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    assert "deepspeech.pytorch is not on PyPI" in printed


def test_ratios_are_those_of_each_round():
    row = Row("a", {OURS: [1.0, 4.0, 3.0], "other": [2.0, 4.0, 1.0]}, [1e9, 3e9, 2e9])
    assert row.ratios("other") == [0.5, 1.0, 3.0]
    assert row.as_lines() == [["a", "3 s", "other: 2 s", "1.00 (0.50 to 3.00)", "", "2"]]
    assert row.as_dict()["matrix_gflops"] == {"median": 2.0, "low": 1.0, "high": 3.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["speed"], "what: 'speed'"), (["beam", "--rounds", 0], "--rounds")],
)
def test_bad_arguments(arguments, message, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, *arguments)
    assert message in capsys.readouterr().err
