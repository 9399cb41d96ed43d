import csv
import resource
import sys

import numpy as np
import pytest
import torch

from scripts import tune_decoder as script
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.decoders.ngram_training import train_ngram


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Those of a command with a tiny language model."""
    train_ngram(["the cat sat"] * 5, order=2).write_arpa(tmp_path / "lm.arpa")

    def given(*more):
        line = ["tune_decoder.py", "RUN", str(tmp_path / "lm.arpa"), "--processes", "1", *more]
        monkeypatch.setattr(sys, "argv", line)

    return given


class FakeSystem:
    text_encoder = CharacterEncoder("en")


def validation(_):
    """One utterance, which is "the kat sat" unless the language model helps."""
    encoder = FakeSystem.text_encoder
    spoken = torch.tensor(encoder.encode("the kat sat"))
    frames = torch.nn.functional.one_hot(spoken, 29) * 8.0
    frames[4, encoder.encode("c")[0]] = 7.5
    return FakeSystem(), script.ValidationSet([frames.log_softmax(-1).numpy()], ["the cat sat"])


def test_best_weights_are_found(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "validation_set", validation)
    arguments("--alpha", "0", "1", "--beta", "0", "--beam-size", "10")
    script.main()
    printed = capsys.readouterr().out
    assert "Lowest: alpha 0.5, beta 1, WER 0.00 %" in printed
    assert "task.decoders.beam.alpha=" in printed
    with (tmp_path / "lm.arpa.tuning.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    wers = {(float(row["alpha"]), float(row["beta"])): float(row["WER"]) for row in rows}
    assert wers[0.0, 0.0] == pytest.approx(100 / 3, abs=1e-3)
    assert wers[1.0, 0.0] == 0
    assert len(wers) > 2  # a finer grid around the best


def test_lexicon_is_used(arguments, monkeypatch, capsys):
    monkeypatch.setattr(script, "validation_set", validation)
    given = ("--alpha", "0", "--beta", "0", "--beam-size", "10", "--lexicon", "model")
    arguments(*given, "--token-threshold", "-20.5")
    script.main()
    printed = capsys.readouterr().out
    assert "0.00" in printed.splitlines()[2]  # alpha 0: no weights are needed
    command = next(line for line in printed.splitlines() if line.startswith("python inference.py"))
    assert command.endswith("task.decoders.beam.lexicon=model")
    assert " task.decoders.beam.token_threshold=-20.5 " in command


def test_many_utterances_reach_several_processes(arguments, monkeypatch, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    arguments("--alpha", "0", "--beta", "0", "--beam-size", "2", "--processes", "2")

    def many(_):
        system, data = validation(_)
        utterances = [data.utterances[0][:5].copy() for _ in range(300)]
        return system, script.ValidationSet(utterances, data.references * 300)

    monkeypatch.setattr(script, "validation_set", many)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        script.main()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "Chosen" in capsys.readouterr().out


def test_results_are_printed_before_the_table_is_written(arguments, tmp_path, monkeypatch, capsys):
    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr(script, "validation_set", validation)
    monkeypatch.setattr(script, "write_beside", full)
    arguments("--alpha", "0", "--beta", "0", "--beam-size", "10")
    with pytest.raises(SystemExit):
        script.main()
    printed = capsys.readouterr()
    assert "Chosen" in printed.out and "python inference.py" in printed.out
    assert "no space left" in printed.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--alpha", "0", "-1"), "--alpha: -1.0; a number from 0 on."),
        (("--token-threshold", "5"), "--token-threshold: 5.0; a log-probability, which is at most"),
        (("--beta", "500"), "--beta: 500.0; a number from -200 to 200."),
        (("--out", "{}"), "--out: {}; a file in a folder that can be written to."),
        (("--out", "{}/lm.arpa/a"), "--out: {}/lm.arpa/a; a file in a folder that can be"),
    ],
)
def test_options_are_checked_before_the_model_runs(
    given, message, arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(script, "validation_set", lambda _: pytest.fail("the model has run"))
    arguments(*(word.format(tmp_path) for word in given))
    with pytest.raises(SystemExit):
        script.main()
    assert message.format(tmp_path) in capsys.readouterr().err


def counts(wrong):
    """The counts of utterances of ten words each, of which some are wrong."""
    errors = np.array(wrong, dtype=float)
    own = np.stack([errors, np.full_like(errors, 10)])
    return np.stack([own, 5 * own])


def chosen(results, speakers=None):
    return script.chosen_of(results, script.standard_errors(results, speakers))


def test_defaults_stay_where_the_difference_is_noise():
    results = {(0.5, 1.0): counts([0, 1] + [0] * 98), (1.5, 3.0): counts([0] * 100)}
    assert script.lowest_of(results) == (1.5, 3.0)
    assert chosen(results) == (0.5, 1.0)
    # Fewer errors in all utterances are no noise, unless all are of one of two speakers.
    results = {(0.5, 1.0): counts([2] * 100), (1.5, 3.0): counts([1] * 100)}
    assert chosen(results) == (1.5, 3.0)
    results = {(0.5, 1.0): counts([4, 0] * 50), (1.5, 3.0): counts([1, 1] * 50)}
    assert chosen(results) == (1.5, 3.0)
    assert chosen(results, ["ann", "bob"] * 50) == (0.5, 1.0)


def test_ties_are_broken_by_characters_then_by_nearness():
    worse = counts([1, 0])
    worse[1, 0] += 1
    results = {(0.5, 2.0): worse, (2.0, 1.0): counts([1, 0]), (1.0, 1.0): counts([1, 0])}
    assert script.lowest_of(results) == (1.0, 1.0)


@pytest.mark.parametrize("name", ["test", "train"])
def test_other_sets_are_refused(arguments, name, capsys):
    arguments("--set", name)
    with pytest.raises(SystemExit):
        script.main()
    assert f"--set: '{name}'; weights are tuned on a validation set." in capsys.readouterr().err


def test_finer_grid():
    assert {beta for _, beta in script.finer((0.5, 200.0), (0.25, 1.0))} == {199.5, 200.0}
    assert script.finer((0.0, 1.0), (0.25, 1.0)) == [
        (alpha, beta) for alpha in (0.0, 0.125) for beta in (0.5, 1.0, 1.5)
    ]
