"""Starting from other weights, parts that stay as they are, rates of their own."""

import logging

import pytest
import torch

from src import build
from src.interop.nemo import load_nemo
from src.models.conformer import ConformerEncoder
from src.models.conformer_ctc import ConformerCTC, LayerProbe
from src.trainer.checkpoint import read_tensors
from src.trainer.pretrained import adopt_encoder, load_pretrained
from tests.demo import experiment
from tests.golden import FIXTURES
from train import train

NEMO = FIXTURES / "nest_model.nemo"
SMALL = ["model.encoder.width=16", "model.encoder.layers=2", "model.encoder.heads=2"]
QUICK = ["trainer.epochs=1", "trainer.test_splits=[]", "trainer.monitor=null"]
QUICK += ["dataloader.max_seconds=12", "trainer.log_every=1"]


@pytest.fixture(scope="module")
def pretrained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ssl") / "run"
    train(experiment("ssl_nest", corpus, folder, "debug=smoke", *SMALL))
    return folder


def encoder_of(folder):
    weights = read_tensors(folder / "model.safetensors")
    return {k: v for k, v in weights.items() if k.startswith("encoder.")}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def nemo_sized(layers=2):
    return ConformerEncoder(layers=layers, width=64, heads=4, subsampling_channels=32)


def test_the_encoder_of_a_nemo_file(caplog):
    caplog.set_level(logging.INFO)
    model = ConformerCTC(nemo_sized(), n_tokens=5)
    load_pretrained(model, NEMO, part="encoder")
    assert same(model.encoder.state_dict(), load_nemo(NEMO).encoder.state_dict())
    assert "loaded 92 weights of encoder" in caplog.text
    assert "left in the file: quantizer (2)" in caplog.text
    assert "not from the file: head (2)" in caplog.text


def test_an_encoder_that_does_not_match_whole_is_an_error(caplog):
    model = ConformerCTC(nemo_sized(layers=3), n_tokens=5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"nest_model.nemo: .*layers.2.* is missing"):
        load_pretrained(model, NEMO, part="encoder")
    assert same(before, model.state_dict())
    load_pretrained(model, NEMO, part="encoder", strict=False)
    reference = load_nemo(NEMO).encoder.state_dict()
    assert same(reference, model.encoder.state_dict())
    assert "layers.2.first_norm.weight is missing" in caplog.text


def test_a_part_that_is_not_there():
    with pytest.raises(ValueError, match="no weight is called head"):
        load_pretrained(ConformerCTC(nemo_sized(), 5), NEMO, part="head")


def test_pretraining_goes_on_from_a_nemo_file(corpus, tmp_path):
    options = ["model.encoder.width=64", "model.encoder.layers=2", "model.encoder.subsampling=8"]
    options += ["model.classes=256", "model.books=1", f"trainer.from_pretrained={NEMO}"]
    train(experiment("ssl_nest", corpus, tmp_path / "r", "debug=smoke", "optimizer.lr=0", *options))
    found = read_tensors(tmp_path / "r" / "last" / "model.safetensors")
    wanted = load_nemo(NEMO).state_dict()
    trained = [k for k in wanted if "running" not in k and "num_batches" not in k]
    assert same({k: wanted[k] for k in trained}, found)


def test_fine_tuning_takes_the_size_from_the_nemo_file(corpus, tmp_path):
    source = f"trainer.from_pretrained={NEMO}"
    config = experiment("asr_nest", corpus, tmp_path / "r", source, "transforms.features.n_mels=3")
    adopt_encoder(config)
    assert (config.model.encoder.width, config.model.encoder.subsampling) == (64, 8)
    assert config.model.encoder.dropout == 0.1  # of the experiment, where the file has 0
    assert config.transforms.batch.inference.features.n_mels == 80
    model = build.build_model(config, build.build(config, "text_encoder"))
    load_pretrained(model, NEMO, config.trainer.pretrained_part)
    assert same(load_nemo(NEMO).encoder.state_dict(), model.encoder.state_dict())


def test_nothing_to_start_from_is_said_at_once(corpus, tmp_path):
    with pytest.raises(ValueError, match="trainer.from_pretrained: name a pretrained run"):
        train(experiment("asr_nest", corpus, tmp_path / "r", "debug=smoke"))


def test_a_frozen_encoder_stays_to_the_bit_and_then_learns(corpus, pretrained, tmp_path):
    options = [f"trainer.from_pretrained={pretrained}", *QUICK, "trainer.steps_per_epoch=3"]
    start = encoder_of(pretrained / "best")
    train(experiment("asr_nest", corpus, tmp_path / "a", *options, "trainer.freeze.encoder=3"))
    assert same(start, encoder_of(tmp_path / "a" / "last"))
    train(experiment("asr_nest", corpus, tmp_path / "b", *options, "trainer.freeze.encoder=2"))
    assert not same(start, encoder_of(tmp_path / "b" / "last"))


def test_a_probe_never_changes_its_encoder(corpus, pretrained, tmp_path):
    options = [f"trainer.from_pretrained={pretrained}", *QUICK, "trainer.steps_per_epoch=3"]
    train(experiment("asr_nest_probe", corpus, tmp_path / "p", *options))
    assert same(encoder_of(pretrained / "best"), encoder_of(tmp_path / "p" / "last"))
    weights = read_tensors(tmp_path / "p" / "last" / "model.safetensors")
    assert weights["layer_scores"].shape == (3,) and weights["layer_scores"].any()


def test_layer_weights_add_up_to_one():
    probe = LayerProbe(nemo_sized(), n_tokens=5).train()
    assert probe.layer_weights().sum().item() == pytest.approx(1)
    assert not probe.encoder.training and probe.head.training
    assert not any(p.requires_grad for p in probe.encoder.parameters())


def test_parts_have_rates_of_their_own(corpus, tmp_path):
    scales = "lr_scales={encoder: 0.5, encoder.layers.0: 0.25}"
    config = experiment("asr_conformer", corpus, tmp_path / "r", *SMALL, scales)
    model = ConformerCTC(ConformerEncoder(layers=2, width=16, heads=2), 5)
    groups = build.parameter_groups(config, model)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    base = config.optimizer.lr
    for name, parameter in model.named_parameters():
        scale = 0.25 if name.startswith("encoder.layers.0.") else 0.5
        assert rates[id(parameter)] == base * (1.0 if name.startswith("head") else scale)
    config.lr_scales = {"nothing": 0.1}
    with pytest.raises(ValueError, match="no parameter of the model is in 'nothing'"):
        build.parameter_groups(config, model)
    config = experiment("asr_conformer", corpus, tmp_path / "r", scales, "scheduler=one_cycle")
    with pytest.raises(ValueError, match="one_cycle has one rate"):
        build.parameter_groups(config, model)
