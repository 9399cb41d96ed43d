"""Tables of draws of conversations; the inferences themselves are replaced."""

import shutil
import sys

import pytest

from scripts import compare_conversations
from tests.golden import FIXTURES

RUN = FIXTURES / "nest_model.nemo"  # any; none is loaded
RATES = {
    "test/cpWER": [0.5, 0.4, 1.2],
    "test/cpWER_mixture": [0.9, 0.8, 1.0],
    "test/cpWER_sources": [0.1, 0.0, 1.0],
}


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Runs the script with inferences whose values follow from the seed; returns their configs."""
    configs = []

    def infer(config):
        configs.append(config)
        return {key: values[config.seed - 1] for key, values in RATES.items()}

    def called(*options, package=True):
        arguments = ["compare_conversations.py", *map(str, options), "--recogniser", str(RUN)]
        monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(tmp_path / "out")])
        monkeypatch.setattr(compare_conversations, "infer", infer)
        monkeypatch.setattr(compare_conversations, "find_spec", lambda name: package)
        compare_conversations.main()
        return configs

    return called


def test_one_table_of_all_separators_and_draws(call, capsys, tmp_path):
    other = shutil.copy(RUN, tmp_path / "lr=1.nemo")
    configs = call(f"good={RUN}", other, "--overrides", "datasets.test.limit=3")
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    assert rows[0] == ["separator", "cpWER", "seed 1", "seed 2", "seed 3", "mean"]
    assert rows[2:6] == [
        ["good", "mixture", "0.90", "0.80", "1.00", "0.90"],
        ["good", "separated", "0.50", "0.40", "1.20", "0.70"],
        ["good", "sources", "0.10", "0.00", "1.00", "0.37"],
        ["good", "recovered", "50%", "50%", "nan%", "38%"],  # that of the means
    ]
    assert [row[0] for row in rows[6:]] == ["lr=1"] * 4
    assert (tmp_path / "out" / "cpWER.md").read_text().splitlines() == lines[-len(rows) :]
    assert [(config.separator, config.seed) for config in configs] == [
        (str(run), seed) for run in (RUN, other) for seed in (1, 2, 3)
    ]
    assert len({config.output for config in configs}) == 6
    assert all(config.datasets.test.limit == 3 for config in configs)
    assert not [name for name in configs[0].metrics if "ORC" in name or "tcp" in name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([RUN, f"nest_model={RUN}"], "nest_model, too; wanted NAME="),
        ([RUN, "--metric", "WER"], "--metric: 'WER'; cpWER, ORC-WER or tcpWER."),
        ([RUN, "--metric", "tcpWER"], "seed_1: no tcpWER of separated, mixture, sources; it needs"),
        (["missing"], "missing: no run here"),
    ],
)
def test_what_cannot_be_compared_is_named(call, capsys, options, message):
    with pytest.raises(SystemExit):
        call(*options)
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_without_meeteval_nothing_is_transcribed(call, capsys, tmp_path):
    with pytest.raises(SystemExit):
        call(RUN, package=None)
    assert capsys.readouterr().err == "error: cpWER: needs `pip install meeteval`.\n"
    assert not (tmp_path / "out").exists()
