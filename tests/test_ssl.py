"""Pretraining and fine-tuning as whole runs: resume, processes, inference, scripts."""

import os
import sys

import numpy as np
import pytest
import torch

from scripts import compare_starts
from src.interop.nemo import load_features, load_nemo
from src.run import load_run
from src.utils.audio import read_audio
from src.utils.files import read_jsonl
from tests.demo import ROOT, experiment, inference, run_script
from tests.golden import FIXTURES
from tests.programs import call_script, run_in_two_processes, run_program
from tests.test_train import (
    assert_same_weights,
    assert_stops_change_nothing,
    weights,
)
from train import train

SIZE = ["model.encoder.d_model=16", "model.encoder.num_layers=2", "model.encoder.num_heads=2"]
SMALL = [*SIZE, "dataloader.max_seconds=12", "trainer.epochs=2", "trainer.steps_per_epoch=2"]
RANDOM = [
    "model.encoder.dropout=0.2",
    "model.encoder.dropout_att=0.2",
    "model.encoder.stochastic_depth_drop_prob=0.3",
    "model.encoder.att_context_size=[[-1, -1], [4, 4]]",
    "transforms.batch.train.noisy_speech.p=0.8",
]


@pytest.fixture(scope="module")
def pretrained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ssl") / "run"
    os.chdir(ROOT)
    return folder, train(experiment("ssl_nest", corpus, folder, *SMALL))


@pytest.mark.parametrize("name", ["ssl_nest", "asr_nest"])
def test_stopped_after_every_step_equals_uninterrupted(name, corpus, pretrained, tmp_path):
    options = [*SMALL, "trainer.accumulate=2"]
    if name == "asr_nest":
        options += [f"init.encoder.source={pretrained[0]}", "trainer.freeze.encoder=2"]
    else:
        options += RANDOM
    assert_stops_change_nothing(name, corpus, tmp_path, *options)


@pytest.mark.parametrize("name", ["ssl_nest", "asr_nest"])
def test_two_processes_one_run(name, corpus, pretrained, tmp_path):
    command = ["train.py", f"-cn={name}", f"datasets.train.folder={corpus}", f"runs={tmp_path}"]
    command += ["writer=nothing", "device=cpu", *SMALL, "dataloader.max_seconds=6"]
    if name == "asr_nest":
        command += [f"init.encoder.source={pretrained[0]}", "trainer.freeze.encoder=2"]
    else:
        command += ["model.encoder.stochastic_depth_drop_prob=0.3"]
    run_in_two_processes(*command)
    (folder,) = (tmp_path / name).iterdir()
    rows = read_jsonl(folder / "metrics.jsonl")
    assert (folder / "log.txt").read_text().count(", test:") == 1
    two = {k: v for k, v in rows[-1].items() if k.startswith("test/")}
    one = inference("ssl" if name == "ssl_nest" else "asr", folder)
    assert {key: one[key] for key in two} == pytest.approx(two, rel=1e-6)


def test_inference_gives_the_metrics_of_training(pretrained):
    folder, trained = pretrained
    metrics = inference("ssl", folder)
    for name in ("loss", "accuracy", "masked_fraction", "codebook_perplexity"):
        assert metrics[f"test/{name}"] == trained[f"test/{name}"]
    lines = (folder / "inference" / "test.tsv").read_text().splitlines()
    assert lines[0].split("\t") == [
        "id",
        "loss",
        "accuracy",
        "masked_fraction",
        "masked",
        "speaker",
    ]
    assert len(list((folder / "inference" / "test").glob("*.json"))) == len(lines) - 1


def test_inference_config_of_other_task_raises(pretrained):
    with pytest.raises(ValueError, match="a run of pretraining, not of recognition"):
        inference("asr", pretrained[0])


def test_load_run_does_not_mask(pretrained, corpus):
    encode = load_run(pretrained[0])
    path = next((corpus / "audio").rglob("*.flac"))
    audio = read_audio(path, 16000)
    encoded = encode(path)
    frames = encode.model.output_length(len(audio) // 160)
    assert encoded.shape == (16, frames)
    batch = encode.inference_transforms(audio=audio[None], audio_length=torch.tensor([len(audio)]))
    with torch.inference_mode():
        plain = encode.model.encoder(**batch)["encoded"][0, :, :frames]
    torch.testing.assert_close(encoded, plain)
    given = encode.transform(encode.batch_of(path))
    states, length = encode.model.encoder.all_hidden_states(**given)
    assert states.shape[:2] == (3, 1) and length.tolist() == [frames]
    torch.testing.assert_close(states[-1, 0, :frames].T, plain)


def test_convert(pretrained, tmp_path):
    out = tmp_path / "out.nemo"
    run_script("convert", pretrained[0], out)
    saved = load_nemo(out).state_dict()
    assert_same_weights(saved, weights(pretrained[0], "best"))
    assert load_features(out).pad_to == 16
    done = call_script("convert", pretrained[0], tmp_path / "out.zip", code=1)
    assert done.stderr.endswith("out.zip: the name must end in .nemo or .pt.\n")
    done = call_script("convert", pretrained[0], tmp_path / "out.pt", code=1)
    assert done.stderr.endswith("a run of NEST; wanted MossFormer2.\n")


def test_extract_features(pretrained, corpus, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    path = next((corpus / "audio").rglob("*.flac"))
    (folder / path.name).write_bytes(path.read_bytes())
    run_script("extract_features", pretrained[0], folder, tmp_path / "a")
    states = np.load(tmp_path / "a" / f"{path.stem}.npy")
    assert states.dtype == np.float32 and states.shape[0::2] == (3, 16)
    encoded = load_run(pretrained[0])(path).T.numpy()
    np.testing.assert_allclose(states[-1], encoded, atol=1e-4)
    call_script(
        "extract_features", pretrained[0], corpus / "val.jsonl", tmp_path / "b", "--layer", 1
    )
    names = {row["audio_filepath"].split("/")[-1] for row in read_jsonl(corpus / "val.jsonl")}
    assert {f.stem for f in (tmp_path / "b").iterdir()} == {n.split(".")[0] for n in names}
    call_script("extract_features", FIXTURES / "nest_model.nemo", folder, tmp_path / "c")
    assert np.load(tmp_path / "c" / f"{path.stem}.npy").shape[2] == 64


def test_plot_layer_weights(corpus, pretrained, tmp_path):
    probe = tmp_path / "probe"
    options = [f"init.encoder.source={pretrained[0]}", "debug=smoke"]
    train(experiment("asr_nest_probe", corpus, probe, *options))
    done = run_script("plot_layer_weights", probe, tmp_path / "a.png")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["input", "1", "2"]
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    done = call_script("plot_layer_weights", pretrained[0], tmp_path / "a.png", code=1)
    assert done.stderr.endswith("holds NEST; wanted a probe.\n")
    done = call_script("convert", probe, tmp_path / "out.nemo", code=1)
    assert done.stderr.endswith("a run of LayerProbe; wanted NEST, EncoderCTC.\n")


def test_count_parameters():
    options = [
        "encoder@model.encoder=fastconformer_l",
        "model.codebook_size=8192",
        "model.num_codebooks=1",
    ]
    printed = run_script("count_parameters", "-cn=ssl_nest", *options).stdout.splitlines()
    assert printed[-1].split() == ["all", "113,106,000", "112,964,608", "100.0%"]
    done = call_script("count_parameters", "-cn=nothing", code=1)
    assert "nothing" in done.stderr and "Traceback" not in done.stderr


def test_compare_starts(corpus, pretrained, tmp_path, monkeypatch, capsys):
    def run_forked(command, stdout, **options):
        assert command[0] == sys.executable
        done = run_program(*command[1:])
        stdout.write(done.stdout)
        return done

    arguments = [pretrained[0], "--out", tmp_path / "starts", "--minutes", 0.3, "--steps", 2]
    arguments += ["--seeds", 1, 2, "--random-lrs", "1e-3", "--pretrained-lrs", "1e-3", "2e-3"]
    own = [f"datasets.train.folder={corpus}", "device=cpu", "dataloader.max_seconds=12"]
    arguments = [*map(str, arguments), "--overrides", *own, *SIZE]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["compare_starts.py", *arguments])
        patch.setattr(compare_starts.subprocess, "run", run_forked)
        compare_starts.main()
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("| 0.3")]
    assert [row.split("|")[2].strip() for row in rows] == ["random", "pretrained"]
    again = run_script("compare_starts", *arguments)
    assert again.stdout == printed  # finished trainings are not repeated


def test_missing_nemo_is_named():
    done = run_script("compare_with_nemo", "--size", "tiny", code=1)
    assert "NeMo is not installed" in done.stderr
