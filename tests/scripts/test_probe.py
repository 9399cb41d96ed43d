import csv
import sys

import pytest

from scripts import probe
from src.run import load_run
from tests.demo import experiment, inference
from train import train

TINY = [
    "model.encoder.d_model=16",
    "model.encoder.num_layers=2",
    "model.encoder.num_heads=2",
    "debug=smoke",
]


@pytest.fixture(scope="module")
def pretrained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe") / "nest"
    train(experiment("ssl_nest", corpus, folder, *TINY))
    return folder


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the script with arguments; returns what it prints."""

    def called(*arguments, fails=False):
        monkeypatch.setattr(sys, "argv", ["probe.py", *map(str, arguments)])
        if fails:
            with pytest.raises(SystemExit):
                probe.main()
            return capsys.readouterr().err.strip().splitlines()[-1]
        probe.main()
        return capsys.readouterr().out

    return called


def test_one_command_gives_one_table(call, pretrained, corpus, tmp_path, monkeypatch):
    options = ["--out", tmp_path / "p", "--steps", 1, "--threads", 1, "--keywords", 2]
    for split in ("train", "val", "test"):
        options += [f"--{split}", corpus / f"{split}.jsonl"]
    options += ["--overrides", "trainer.epochs=1", "device=cpu"]
    printed = call(pretrained, "random", "--tasks", "phonemes,speaker", *options)
    lines = [line.split() for line in printed.splitlines()]
    assert lines[0] == ["in", "%", "PER", "speaker", "accuracy"]
    assert [line[0] for line in lines[1:3]] == ["nest", "random"] and len(lines[1]) == 3
    assert lines[4][:2] == ["test", "utterances"] and lines[4][2] == "8"
    with (tmp_path / "p" / "probes.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["encoder"], row["task"]) for row in rows] == [
        (name, task) for name in ("nest", "random") for task in ("phonemes", "speaker")
    ]
    assert all(len(row["layer_weights"].split()) == 3 for row in rows)
    assert (tmp_path / "p" / "layer_weights.png").read_bytes()[:4] == b"\x89PNG"

    monkeypatch.setattr(probe, "train", None)  # nothing is trained again
    assert call(pretrained, "random", "--tasks", "phonemes,speaker", *options) == printed
    options[3] = 2
    message = call(pretrained, "--tasks", "speaker", *options, fails=True)
    assert "holds other probes" in message

    folder = tmp_path / "p" / "nest_speaker"
    values = inference("classification", folder)
    assert f"{values['test/accuracy']:.4f}" == rows[1]["value"]
    path = next((corpus / "audio").rglob("*.flac"))
    assert load_run(folder)(path) in ("alicia", "michael")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["random"], "encoders: only 'random'; name another one, whose size it gets."),
        (["{run}", "{run}"], "{run}: another encoder is called 'nest', too; rename one."),
        (["{run}", "--tasks", "words"], "--tasks: 'words'; phonemes, characters, speaker or key"),
        (["{run}", "--train", "a.jsonl"], "--train: needs --train, --val, --test."),
        (["{run}x"], "{run}x: neither a run"),
        (["{run}", "--steps", "0"], "--steps: 0; a whole number above 0."),
    ],
)
def test_bad_arguments(call, pretrained, tmp_path, arguments, message):
    own = [argument.format(run=pretrained) for argument in arguments]
    assert message.format(run=pretrained) in call(*own, "--out", tmp_path / "p", fails=True)
    assert not (tmp_path / "p").exists()
