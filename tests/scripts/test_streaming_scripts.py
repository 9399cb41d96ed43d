import pytest
import torch

from scripts.listen import Screen
from src.run import load_run
from src.stream import Partial
from tests.demo import experiment, run_script
from tests.programs import call_script
from train import train

ENCODER = ("model.encoder.d_model=16", "model.encoder.num_layers=1", "model.encoder.num_heads=2")


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("streaming") / "run"
    train(experiment("asr_streaming", corpus, folder, "debug=smoke", *ENCODER))
    return folder


def test_listen(run, corpus, tmp_path):
    audio = sorted((corpus / "audio").rglob("*.flac"))[0]
    printed = run_script("listen", run, audio, "--fast", "--context", 56, 1).stdout
    system = load_run(run)
    system.model.encoder.att_context_sizes = [(56, 1)]
    assert printed.splitlines()[0].strip() == system(audio)
    assert "real-time factor" in printed
    for arguments, named in (
        ((run, tmp_path / "none.wav"), "none.wav: no such audio file"),
        ((run, audio, "--context", 70, 13), r"[70, 13]; the model was trained with [56, 13]"),
        ((run, audio, "--decoder", "best"), "decoder: 'best'"),
        ((run, audio, "--beam", -1), "beam_size: -1"),
        ((run,), "The microphone"),
    ):
        error = call_script("listen", *arguments, code=1).stderr
        assert named in error
        assert error.count("\n") == 1


def test_offline_run_is_refused(corpus, tmp_path):
    small = ("model.hidden_size=16", "model.num_layers=1")
    train(experiment("asr_deepspeech2", corpus, tmp_path / "r", "debug=smoke", *small))
    audio = next((corpus / "audio").rglob("*.flac"))
    error = call_script("listen", tmp_path / "r", audio, code=1).stderr
    assert error.startswith("error: features, normalization: 'per_feature'")


def test_measure_streaming(run, corpus):
    manifest = corpus / "test.jsonl"
    printed = run_script(
        "measure_streaming", run, "--manifest", manifest, "--limit", 3, "--beam", "--beside", run
    ).stdout
    assert printed.count("| greedy |") == printed.count("| beam |") == 4
    assert "0 transcripts differ" in printed
    assert f"{run}, of recordings: WER" in printed


def test_words_that_may_change_are_dim(capsys):
    screen = Screen(width=12, live=True)
    screen.show(Partial("", "he"))
    screen.show(Partial("hello", "wor"))
    screen.show(Partial("hello world again", "a pending text"))
    screen.end("hello world again and")
    written = capsys.readouterr().out
    assert "hello\x1b[2m wor\x1b[0m" in written
    assert "hello world\nagain\x1b[2m a pen\x1b[0m" in written  # cut to the width
    assert written.endswith("again and\x1b[2m\x1b[0m\n")
    screen = Screen(width=12, live=False)
    screen.show(Partial("hello", "wor"))
    screen.end("hello world again")
    assert capsys.readouterr().out == "hello world\nagain\n"


def test_offline_recogniser_becomes_a_streaming_one(corpus, tmp_path):
    train(experiment("asr_conformer", corpus, tmp_path / "a", "debug=smoke", *ENCODER))
    source = f"init.model.source={tmp_path / 'a'}"
    config = experiment(
        "asr_finetune_streaming", corpus, tmp_path / "b", "debug=smoke", source, "datasets=demo"
    )
    train(config)
    system = load_run(tmp_path / "b")
    audio = torch.randn(20000) * 0.1
    stream = system.stream((56, 6))
    stream.accept(audio, 16000)
    system.model.encoder.att_context_sizes = [(56, 6)]
    assert stream.finish() == system(audio, 16000)
    assert system.inference_transforms["features"].fixed_std == 4
