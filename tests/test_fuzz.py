"""A smaller run of `tests.fuzz`, and bad input that once broke whole commands."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from inference import infer
from tests.demo import CONFIGS, SMALL, experiment
from tests.programs import run_program
from train import train

ROOT = Path(__file__).parents[1]
NAME = "asr_deepspeech2"


@pytest.mark.parametrize("kinds", [["overrides", "inference", "resume"], ["manifests", "audio"]])
def test_bad_input_ends_well_or_in_one_sentence(kinds):
    run_program("tests/fuzz.py", "--count=12", "--seed=0", *kinds)


def test_bad_runs_and_files_end_well_or_in_one_sentence():
    test_bad_input_ends_well_or_in_one_sentence(["runs", "nemo", "recognisers"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer.lr=1e30", "scheduler=constant"], "diverged|steps in a row|not finite"),
        (["optimizer.lr=nan"], "optimizer.lr: nan; a number"),
        (["optimizer.lr=[1]"], r"optimizer.lr: \[1\]; a number"),
        (["trainer.accumulate=0"], "trainer.accumulate: 0; a whole number above 0"),
        (["trainer.epochs=1.5"], "trainer.epochs: 1.5; a whole number"),
        (["trainer.log_every_steps=0"], "trainer.log_every_steps: 0; a whole number above 0"),
        (["trainer.show_stages=foo"], "trainer.show_stages: 'foo'; ends or all"),
        (["trainer.test_on=1"], "trainer.test_on: 1; a list of text"),
        (["transforms.batch.inference.features=null"], "DeepSpeech2 needs spectrogram"),
        (["features.n_mels=foo"], "config, features.n_mels: 'foo'; a whole number"),
        (["trainer.test_on=[foo]"], "config, trainer.test_on: 'foo'; names of val, test"),
        (["threads=1000000000"], "threads: 1000000000; a whole number from 1 to 1024"),
        (["name=[]"], r"config, name: \[\]; text"),
        (["trust=1"], "config, trust: 1; a list of text"),
        (["evaluations.test=foo"], "config, evaluations.test"),
        (["+evaluations.test.foo=1"], "config, evaluations.test.foo: no such key, only dataset"),
        (["optimizers.main.lr_scales=1"], "optimizers.main.lr_scales: 1; a mapping to a number"),
        (["+optimizers.main.foo=1"], "optimizers.main.foo: no such key, only like, parts"),
        (["+transforms.foo=1"], "config, transforms.foo: no such key, only batch"),
        (["+transforms.batch.foo=1"], "transforms.batch.foo: no such key, only train"),
        (["metrics.WER=1"], "config, metrics.WER: 1; a mapping with _target_"),
        (["metrics.WER._target_=foo"], "metrics.WER._target_: 'foo' can't be imported"),
        (["task.decoders.greedy=1"], "task.decoders.greedy|task.decoders: "),
        (["model.dropout=true"], "model.dropout: true; a number"),
        (["+trainer.foo=1"], "config, trainer.foo: no such key"),
        (["+scheduler.foo=1"], "config, scheduler.foo: no such key"),
    ],
)
def test_bad_values_are_named(corpus, tmp_path, overrides, words):
    own = [*SMALL, "debug=smoke", "trainer.max_discarded=1", *overrides]
    with pytest.raises(ValueError, match=words):
        train(experiment(NAME, corpus, tmp_path / "r", *own))


def test_a_metric_can_be_left_out(corpus, tmp_path):
    own = [*SMALL, "debug=smoke", "trainer.steps_per_epoch=1", "metrics.CER=null"]
    assert "test/CER" not in train(experiment(NAME, corpus, tmp_path / "r", *own))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.nonsense=1"], "config, trainer.nonsense: no such key; one that isn't in"),
        (["optimizer=null"], "config, optimizer: null; one of adamw, adamw_fused, muon, "),
        (
            ["loss=foo"],
            "config: there is no 'loss/foo', only classification, cr_ctc, cr_ctc_phonemes, ctc,",
        ),
        (["trainer.epochs=[1"], "'trainer.epochs=[1': not of the form key=value"),
    ],
)
def test_errors_of_hydra_are_one_sentence(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    assert exit.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}") and printed.count("\n") == 1


# Data that can't be read, and files of the user's ---------------------------------------------


@pytest.fixture
def own_corpus(corpus, tmp_path):
    """A copy of the corpus that may be spoilt."""
    return shutil.copytree(corpus, tmp_path / "corpus")


def spoil(corpus, split):
    """Make every recording of a split unreadable."""
    for line in (corpus / f"{split}.jsonl").read_text().splitlines():
        (corpus / json.loads(line)["audio_filepath"]).write_bytes(b"nothing")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_set_that_cannot_be_read_whole(own_corpus, tmp_path, split):
    spoil(own_corpus, split)
    own = [*SMALL, "debug=smoke", f"+datasets.{split}.on_error=skip", "trainer.monitor=null"]
    own += ["trainer.log_every_steps=1"]
    config = experiment(NAME, own_corpus, tmp_path / "r", *own)
    try:
        train(config)
    except ValueError as error:
        assert split in str(error)
    assert "skipped" in (tmp_path / "r" / "log.txt").read_text()


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("rows", [1, 10_000])
def test_a_split_without_text(own_corpus, tmp_path, split, rows):
    path = own_corpus / f"{split}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for row in lines[:rows]:
        del row["text"]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    with pytest.raises(ValueError, match=rf"{split}.jsonl, line 1: .* no text|evaluations.{split}"):
        train(experiment(NAME, own_corpus, tmp_path / "r", *SMALL))
    assert not (tmp_path / "r" / "last").exists()


@pytest.mark.parametrize("name", ["test/notes.txt", "test.tsv", "metrics.json", "log.txt"])
def test_inference_touches_nothing_of_the_users(corpus, tmp_path, name):
    own = [*SMALL, "debug=smoke", "trainer.steps_per_epoch=1"]
    train(experiment(NAME, corpus, tmp_path / "r", *own))
    theirs = tmp_path / "out" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        options = [f"run={tmp_path / 'r'}", f"output={tmp_path / 'out'}", "device=cpu"]
        config = compose("inference_asr", overrides=options)
    with pytest.raises(FileExistsError, match=f"{name.partition('/')[0]}: exists and wasn't"):
        infer(config)
    assert theirs.read_text() == "mine"
    left = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*")}
    assert not any("unfinished" in path.name for path in left)
