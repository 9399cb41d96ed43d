import csv
import json
import math
import sys

import numpy as np
import pytest
import torch

from scripts.find_suspects import MEASURES, deviations, main, measure, ranked
from src.report.page import read_page
from tests.demo import SMALL, experiment
from train import train


def certain(tokens, frames, confidence=0.9):
    """Log-probabilities [T, 9] of one token in every second frame, and blanks."""
    probabilities = torch.full((frames, 9), (1 - confidence) / 8)
    path = torch.zeros(frames, dtype=torch.int64)
    path[1 : 2 * len(tokens) : 2] = torch.tensor(tokens)
    probabilities[torch.arange(frames), path] = confidence
    return probabilities.log()


def test_measures_by_hand():
    own = measure(certain([1, 2, 3], 10), [1, 2, 3], seconds=2.0)
    assert own["confidence"] == pytest.approx(0.9)
    # The first token is in frame 1 and the last in frame 5: five of ten frames, one second.
    assert own["tokens_per_second"] == pytest.approx(3.0)
    assert 0 < own["loss_per_token"] < -10 * math.log(0.9) / 3 + 1e-3
    assert measure(certain([1, 2, 3], 10), [4, 5, 6], 2.0)["confidence"] < 0.05
    impossible = measure(certain([1], 2), [1, 2, 3], 1.0)
    assert impossible == dict(zip(MEASURES, (math.inf, 3.0, 0.0), strict=True))


def test_wrong_transcripts_come_first():
    rng = np.random.default_rng(0)
    rows = []
    for i in range(500):
        tokens = rng.integers(1, 9, 12)
        spoken = tokens.copy()
        if i < 20:
            spoken[4:7] = 1 + tokens[4:7] % 8  # three other tokens
        log_probs = certain(spoken.tolist(), 40, confidence=rng.uniform(0.9, 0.99))
        rows.append({"i": i} | measure(log_probs, tokens.tolist(), 2.0))
    first = ranked(rows, threshold=3.5)[:40]
    assert {row["i"] for row in first[:20]} == set(range(20))
    assert all(row["reasons"] for row in first[:20])


def test_deviations():
    values = np.array([1.0, 2.0, 3.0, 4.0, math.inf])
    loss = deviations("loss_per_token", values)
    assert loss[:3].tolist() == [0, 0, 0] and loss[3] == pytest.approx(1 / 1.4826)
    assert np.isfinite(loss).all()
    assert deviations("confidence", -values)[4] > 100
    assert deviations("tokens_per_second", values)[0] == pytest.approx(2 / 1.4826)
    assert np.isfinite(deviations("loss_per_token", np.full(5, math.inf))).all()


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["find_suspects.py", *map(str, arguments)])
    main()


def test_command(corpus, tmp_path, monkeypatch, capsys):
    train(experiment("asr_deepspeech2", corpus, tmp_path / "r", *SMALL, "debug=smoke"))
    manifest, out = corpus / "train.jsonl", tmp_path / "out.tsv"
    call(monkeypatch, tmp_path / "r", manifest, "--out", out, "--show", 1, "--players", 2)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    with out.open(newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    assert f"of {len(rows)} rows are suspicious" in capsys.readouterr().out
    assert sorted(int(row["line"]) for row in table) == list(range(1, len(rows) + 1))
    for row in table:
        assert row["audio"].endswith(rows[int(row["line"]) - 1]["audio_filepath"])
        assert row["text"] == rows[int(row["line"]) - 1]["text"]
    scores = [float(row["score"]) for row in table]
    assert scores == sorted(scores, reverse=True)
    (data,) = read_page(tmp_path / "out.html")
    assert len(data["rows"]) == len(rows)
    players = [extra["audio"][0] for extra in data["extras"] if "audio" in extra]
    assert len(players) == 2
    assert all((tmp_path / "out_audio" / player["file"]).exists() for player in players)
    (tmp_path / "m.jsonl").write_text(json.dumps(rows[0] | {"text": None}) + "\n")
    with pytest.raises(SystemExit):
        call(monkeypatch, tmp_path / "r", tmp_path / "m.jsonl")
    assert capsys.readouterr().err == f"error: {tmp_path / 'm.jsonl'}: has no transcripts.\n"
    assert not (tmp_path / "m.suspects.tsv").exists()


def test_no_recogniser(corpus, tmp_path, monkeypatch, capsys):
    train(experiment("ssl_nest", corpus, tmp_path / "r", "debug=smoke"))
    with pytest.raises(SystemExit):
        call(monkeypatch, tmp_path / "r", corpus / "train.jsonl")
    assert "r: no recogniser; only one can align transcripts." in capsys.readouterr().err
