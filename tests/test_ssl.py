"""Pretraining and fine-tuning as whole runs: resume, processes, inference, scripts."""

import os
import sys

import numpy as np
import pytest
import torch

from scripts import compare_starts
from src.building import build_model
from src.interop.initialization import adopt_configs, initialize
from src.interop.nemo import load_features, load_nemo
from src.run import load_run
from src.utils.audio import read_audio
from src.utils.checkpoint import read_tensors
from src.utils.files import read_jsonl
from tests.demo import ROOT, experiment, inference, run_script
from tests.golden import FIXTURES
from tests.programs import call_script, run_in_processes, run_program
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
    run_in_processes(2, *command)
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
    with pytest.raises(ValueError, match="not of recognition; take -cn=inference_ssl"):
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


@pytest.fixture(scope="module")
def clusters(pretrained, corpus, tmp_path_factory):
    """Clusters of two layers of a pretrained encoder."""
    out = tmp_path_factory.mktemp("clusters") / "a.safetensors"
    options = ["--layer", 1, 2, "--clusters", 8, "--frames", 500]
    done = call_script("cluster_features", pretrained[0], corpus / "train.jsonl", out, *options)
    assert "500 frames" in done.stdout and "layer 2: 8 clusters explain" in done.stdout
    return out


def test_clusters_are_targets_of_self_contained_runs(pretrained, clusters, corpus, tmp_path):
    """HuBERT's second round: pretraining, resuming and fine-tuning without the clusters' file."""
    source = tmp_path / "gone.safetensors"
    source.write_bytes(clusters.read_bytes())
    one = [*SMALL, "trainer.epochs=1"]
    options = ["init=quantizer", f"init.quantizer.source={source}", *one]
    options.append(f"+init.encoder.source={pretrained[0]}")  # go on from the first model
    values = train(experiment("ssl_nest", corpus, tmp_path / "r", *options))
    assert 0 < values["test/accuracy_majority"] < 1
    assert 0.2 < values["test/codebook_coverage"] <= 1  # of 8 clusters, not of 256 codes
    source.unlink()
    resumed = experiment("ssl_nest", corpus, tmp_path / "r")
    resumed.trainer.resume_from = str(tmp_path / "r")
    train(resumed, [f"trainer.resume_from={tmp_path / 'r'}", "trainer.epochs=2"])
    system, saved = load_run(tmp_path / "r"), read_tensors(clusters)
    for name, value in system.model.quantizer.state_dict().items():
        assert torch.equal(value, saved[f"quantizer.{name}"])  # never trained
    own = weights(tmp_path / "r", "best")
    assert len(system.model.quantizer.codebooks) == 2
    done = call_script("convert", tmp_path / "r", tmp_path / "a.nemo", code=1)
    assert "NeMo has random projections only" in done.stderr
    for name, options in (
        ("ssl_nest", ["init=model", f"init.model.source={tmp_path / 'r'}"]),
        ("asr_nest", [f"init.encoder.source={tmp_path / 'r'}"]),
    ):
        options.append(f"init.{options[-1].split('.')[1]}.adopt_config=true")
        config = experiment(name, corpus, tmp_path / "s", *options)
        adopt_configs(config)
        model = build_model(config, None if name == "ssl_nest" else "abc")
        initialize(model, config)
        same = {k: v for k, v in own.items() if name == "ssl_nest" or k.startswith("encoder.")}
        assert_same_weights({k: v for k, v in model.state_dict().items() if k in same}, same)


def test_clusters_are_deterministic(pretrained, clusters, corpus, tmp_path):
    options = ["--layer", 1, 2, "--clusters", 8, "--frames", 500]
    out = tmp_path / "a.safetensors"
    call_script("cluster_features", pretrained[0], corpus / "train.jsonl", out, *options)
    assert out.read_bytes() == clusters.read_bytes()


def test_clusters_of_other_sources(corpus, tmp_path):
    """HuBERT's first round, a .nemo file of a recogniser, and what is refused."""
    audio, out = corpus / "val.jsonl", tmp_path / "a.safetensors"
    done = call_script("cluster_features", "mfcc", audio, out, "--clusters", 4, "--frames", 300)
    assert "mfcc: 4 clusters" in done.stdout
    options = ["init=quantizer", f"init.quantizer.source={out}", *SIZE, "debug=smoke"]
    train(experiment("ssl_nest", corpus, tmp_path / "r", *options))
    assert load_run(tmp_path / "r").model.quantizer.codebooks.shape == (1, 4, 52)
    recogniser = FIXTURES / "asr_fastconformer_ctc_bpe.nemo"
    options = ["--layer", 1, "--clusters", 4, "--frames", 300]
    call_script("cluster_features", recogniser, audio, out, *options)
    options = ["init=quantizer", f"init.quantizer.source={out}"]
    options.append(f"+init.encoder={{source: {recogniser}, adopt_config: true}}")
    config = experiment("ssl_nest", corpus, tmp_path / "n", *options)
    adopt_configs(config)
    model = build_model(config, None)
    initialize(model, config)  # pretraining goes on from a .nemo file
    own = model.quantizer.features.encoder.state_dict()
    assert_same_weights({k: v for k, v in model.encoder.state_dict().items() if k in own}, own)
    for arguments, message in (
        ([recogniser, audio, out], "--layer: wanted, from 0 to"),
        ([recogniser, audio, out, "--layer", 99], "--layer: 99"),
        (["mfcc", audio, out, "--layer", 1], "mfcc has no layers"),
        (["log_mel", audio, out, "--clusters", 9, "--frames", 8], "--frames: 8"),
        (["log_mel", audio, tmp_path / "a.npz"], "must end in .safetensors"),
    ):
        assert message in call_script("cluster_features", *arguments, code=1).stderr


def test_plot_layer_weights(corpus, pretrained, tmp_path):
    probe = tmp_path / "probe"
    options = [f"init.encoder.source={pretrained[0]}", "debug=smoke"]
    train(experiment("asr_nest_probe", corpus, probe, *options))
    done = run_script("plot_layer_weights", probe, tmp_path / "a.png")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["input", "1", "2"]
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    done = call_script("plot_layer_weights", pretrained[0], tmp_path / "a.png", code=1)
    assert done.stderr.endswith("holds NEST; wanted a probe, or EncoderCTC with weighted_sum.\n")
    done = call_script("convert", probe, tmp_path / "out.nemo", code=1)
    assert done.stderr.endswith("a run of LayerProbe; wanted NEST, EncoderCTC.\n")


def test_long_recordings_are_measured_with_recognisers(pretrained):
    done = call_script("measure_long_recordings", pretrained[0], code=1)
    assert done.stderr.startswith(f"error: {pretrained[0]}: no recogniser; only one gives words")


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
    done = call_script("count_parameters", "-cn=inference_asr", code=1)
    assert done.stderr == "error: config, -cn: this experiment is one for inference.py.\n"
    done = call_script("count_parameters", "-cn=asr_finetune", code=1)
    assert done.stderr.startswith("error: config, model: without _target_")


def test_compare_starts(corpus, pretrained, tmp_path, monkeypatch, capsys):
    def run_forked(command, stdout, **options):
        assert command[0] == sys.executable
        done = run_program(*command[1:])
        stdout.write(done.stdout)
        return done

    arguments = [pretrained[0], "--out", tmp_path / "starts", "--minutes", 0.3, "--steps", 2]
    arguments += ["--seeds", 1, 2, "--random-lrs", "1e-3", "--pretrained-lrs", "1e-3", "2e-3"]
    splits = [
        f"datasets.{name}.manifest={corpus}/{name}.jsonl" for name in ("train", "val", "test")
    ]
    arguments += ["--corpus", "mine", "datasets=manifest", *splits]
    own = ["device=cpu", "dataloader.max_seconds=12", *SIZE]
    arguments = [*map(str, arguments), "--overrides", *own]
    arguments += ["--pretrained-overrides", "model.weighted_sum=true"]
    arguments.append("optimizers.main.layer_decay={encoder.layers: 0.8}")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["compare_starts.py", *arguments])
        patch.setattr(compare_starts.subprocess, "run", run_forked)
        compare_starts.main()
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("| mine | 0.3")]
    assert [row.split("|")[3].strip() for row in rows] == ["random", "run"]
    again = run_script("compare_starts", *arguments)
    assert again.stdout == printed  # finished trainings are not repeated


def test_missing_nemo_is_named():
    done = run_script("compare_with_nemo", "--size", "tiny", code=1)
    assert "NeMo is not installed" in done.stderr
