"""Tables of minutes, corpora, starts, rates and seeds; the trainings themselves are replaced."""

import json
import sys

import pytest

from scripts import compare_starts
from scripts.compare_starts import RANDOM, Job, difference
from tests.golden import FIXTURES

NEMO = FIXTURES / "nest_model.nemo"


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Runs the script with trainings whose WER follows from the job; returns these jobs."""
    jobs = []

    def train(job, arguments):
        jobs.append(job)
        value = 0.5 + 0.01 * job.seed - (0.2 if job.start == "good" else 0.0)
        value += abs(job.learning_rate - 8e-3) - 0.001 * job.minutes
        folder = arguments.out / job.name
        folder.mkdir()
        rows = [{"val/WER": value}, {"test/WER": value}]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(*options):
        jobs.clear()
        arguments = ["compare_starts.py", *map(str, options), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setattr(compare_starts, "train", train)
        compare_starts.main()
        return list(jobs)

    return start


def test_several_runs_corpora_and_minutes(started, capsys):
    runs = [f"good={NEMO}", f"same={NEMO}"]
    options = ["--minutes", 3, 10, "--seeds", 1, 2]
    options += ["--corpus", "a", "--corpus", "b", "datasets=manifest"]
    jobs = started(*runs, *options)
    of_random, of_run = 3 + 1, 4 + 1  # rates, and a second seed
    assert len(jobs) == len(set(jobs)) == 2 * 2 * (of_random + 2 * of_run)
    printed = capsys.readouterr().out
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")][1:]
    assert [row[:3] for row in rows[:3]] == [["| a", "3", s] for s in (RANDOM, "good", "same")]
    assert [row[1] for row in rows] == ["3"] * 3 + ["10"] * 3 + ["3"] * 3 + ["10"] * 3
    assert rows[1][3:] == ["0.008", "30.7, 31.7", "31.2", "0.7", "39 % |"]
    assert "a 3 min  good - random: -20.0, more than 1.0 (Welch's t-test: p = 0.00" in printed
    assert "b 10 min  same - random: +0.0, not more than 1.0 (Welch" in printed
    assert "b 10 min  same - good: +20.0, more than 1.0" in printed
    assert "outermost" not in printed
    options += ["--corpus", "c"]
    further = started(f"good={NEMO}", f"third={NEMO}", *options)  # only what is new
    assert {(job.corpus, job.start) for job in further} == {
        *(("c", start) for start in (RANDOM, "good", "third")),
        *((corpus, "third") for corpus in "ab"),
    }


def test_outermost_learning_rate_is_noted(started, capsys):
    jobs = started(NEMO, "--minutes", 3, "--seeds", 1, "--random-lrs", 1e-3, 2e-3)
    assert {job.start for job in jobs} == {RANDOM, "nest_model"}
    printed = capsys.readouterr().out.splitlines()
    noted = [line.split()[2] for line in printed if "try further" in line]
    assert noted == [RANDOM]


def test_other_comparison_in_the_folder_is_named(started, capsys, tmp_path):
    started(f"good={NEMO}", "--minutes", 3, "--seeds", 1)
    other = tmp_path / "other.nemo"
    other.write_bytes(NEMO.read_bytes())
    for options, message in (
        ([f"good={other}"], "another comparison, whose runs are"),
        ([f"good={NEMO}", "--steps", 5], "another comparison, whose steps are 1000"),
        ([f"good={NEMO}", "--corpus", "", "seed=3"], "another comparison, whose corpora are"),
        ([NEMO, NEMO], "another one is called nest_model"),
        ([NEMO, "--corpus", "a", "--corpus", "a"], "--corpus a: wanted another name"),
        ([tmp_path / "nothing"], "nothing"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            started(*options)
        assert message in capsys.readouterr().err


def test_comparison_from_before_muon_is_not_continued(started, capsys, tmp_path):
    options = f"good={NEMO}", "--minutes", 3, "--seeds", 1
    started(*options)
    path = tmp_path / "out" / "comparison.json"
    saved = json.loads(path.read_text())
    assert saved.pop("optimizers") == "muon"
    path.write_text(json.dumps(saved))
    with pytest.raises(SystemExit):
        started(*options)
    assert "another comparison, whose optimizers are adamw" in capsys.readouterr().err


def test_difference_is_compared_with_the_spread():
    assert difference([20.0, 21.0, 22.0], [30.0, 31.0, 30.5]).startswith("-9.5, more than 2.0 (")
    assert difference([30.0, 34.0], [31.0, 31.5]).startswith("+0.8, not more than 4.0 (")
    assert difference([30.0], [31.0]) == "-1.0; one seed doesn't tell the spread"
    assert difference([30.0, 30.0], [31.0, 31.0]) == "-1.0, more than 0.0"


def test_names_of_jobs():
    assert Job("", 3, "nest", 2e-3, 1).name == "nest_3min_lr0.002_seed1"
    assert Job("mine", 0.5, RANDOM, 2e-3, 1).name == "mine_random_0.5min_lr0.002_seed1"
