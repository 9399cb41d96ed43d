"""Initialisation from other weights, frozen parts, and probes."""

import logging

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from src.building import build_system
from src.config import build
from src.interop.initialization import adopt_configs, initialize, load_part, realigned_kernels
from src.interop.nemo import load_nemo
from src.interop.sources import Source
from src.models.conformer import ConformerEncoder
from src.models.deepspeech2 import DeepSpeech2
from src.models.encoder_ctc import EncoderCTC, LayerProbe
from src.models.jasper import ConvEncoder
from src.models.layers.nest.clusters import ClusterQuantizer, EncoderLayers
from src.run import Run
from src.utils.checkpoint import read_tensors
from tests.demo import composed, experiment
from tests.golden import FIXTURES
from train import train

NEMO = FIXTURES / "nest_model.nemo"
SMALL = ["model.encoder.d_model=16", "model.encoder.num_layers=2", "model.encoder.num_heads=2"]
TINY = {"feat_in": 16, "hidden_size": 8, "num_layers": 1}  # of DeepSpeech2
QUICK = ["trainer.epochs=1", "trainer.test_on=[]", "trainer.monitor=null"]
QUICK += ["dataloader.max_seconds=12", "trainer.log_every_steps=1"]


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


def encoder_source(**options):
    return Source("encoder", NEMO, "encoder", **options)


def nemo_sized(num_layers=2):
    return ConformerEncoder(
        num_layers=num_layers, d_model=64, num_heads=4, subsampling_conv_channels=32
    )


def test_encoder_from_nemo_file(caplog):
    caplog.set_level(logging.INFO)
    model = EncoderCTC(nemo_sized(), vocab_size=5)
    load_part(model, encoder_source())
    assert same(model.encoder.state_dict(), load_nemo(NEMO).encoder.state_dict())
    assert "loaded 92 weights of encoder" in caplog.text
    assert "unused weights of the file: quantizer (2)" in caplog.text
    assert "weights not in the file: head (2)" in caplog.text


def test_mismatched_encoder_raises_unless_not_strict(caplog):
    model = EncoderCTC(nemo_sized(num_layers=3), vocab_size=5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"nest_model.nemo: .*layers.2.* is missing"):
        load_part(model, encoder_source())
    assert same(before, model.state_dict())
    load_part(model, encoder_source(strict=False))
    reference = load_nemo(NEMO).encoder.state_dict()
    assert same(reference, model.encoder.state_dict())
    assert "layers.2.norm_feed_forward1.weight is missing" in caplog.text


def test_missing_part_raises():
    with pytest.raises(ValueError, match="no weight is called head"):
        load_part(EncoderCTC(nemo_sized(), 5), Source("head", NEMO, "head"))
    with pytest.raises(ValueError, match="init.tail: the model has no 'tail', but encoder, head"):
        load_part(EncoderCTC(nemo_sized(), 5), Source("tail", NEMO, "encoder"))


def test_pretraining_continues_from_nemo_file(corpus, tmp_path):
    options = [
        "model.encoder.d_model=64",
        "model.encoder.num_layers=2",
        "model.encoder.subsampling_factor=8",
    ]
    options += [
        "model.codebook_size=256",
        "model.num_codebooks=1",
        "init=model",
        f"init.model.source={NEMO}",
    ]
    train(experiment("ssl_nest", corpus, tmp_path / "r", "debug=smoke", "optimizer.lr=0", *options))
    loaded = read_tensors(tmp_path / "r" / "last" / "model.safetensors")
    wanted = load_nemo(NEMO).state_dict()
    trained = [k for k in wanted if "running" not in k and "num_batches" not in k]
    assert same({k: wanted[k] for k in trained}, loaded)


def test_fine_tuning_adopts_size_of_nemo_file(corpus, tmp_path):
    source = f"init.encoder.source={NEMO}"
    config = experiment("asr_nest", corpus, tmp_path / "r", source, "features.n_mels=3")
    adopt_configs(config)
    assert (config.model.encoder.d_model, config.model.encoder.subsampling_factor) == (64, 8)
    assert config.model.encoder.dropout == 0.1  # of the experiment, where the file has 0
    assert config.transforms.batch.inference.features.n_mels == 80
    model = build_system(config).model
    initialize(model, config)
    assert same(load_nemo(NEMO).encoder.state_dict(), model.encoder.state_dict())


def test_missing_source_raises(corpus, tmp_path):
    with pytest.raises(ValueError, match="init.encoder.source: must be given"):
        train(experiment("asr_nest", corpus, tmp_path / "r", "debug=smoke"))


def test_encoder_is_unchanged_while_frozen(corpus, pretrained, tmp_path):
    options = [f"init.encoder.source={pretrained}", *QUICK, "trainer.steps_per_epoch=3"]
    start = encoder_of(pretrained / "best")
    train(experiment("asr_nest", corpus, tmp_path / "a", *options, "trainer.freeze.encoder=3"))
    assert same(start, encoder_of(tmp_path / "a" / "last"))
    train(experiment("asr_nest", corpus, tmp_path / "b", *options, "trainer.freeze.encoder=2"))
    assert not same(start, encoder_of(tmp_path / "b" / "last"))


def test_probe_does_not_change_encoder(corpus, pretrained, tmp_path):
    options = [f"init.encoder.source={pretrained}", *QUICK, "trainer.steps_per_epoch=3"]
    train(experiment("asr_nest_probe", corpus, tmp_path / "p", *options))
    assert same(encoder_of(pretrained / "best"), encoder_of(tmp_path / "p" / "last"))
    weights = read_tensors(tmp_path / "p" / "last" / "model.safetensors")
    assert weights["layer_scores"].shape == (3,) and weights["layer_scores"].any()


def test_probe_adopts_another_kind_of_encoder(tmp_path):
    Run(tmp_path).save_config(composed("asr_quartznet"), None)
    config = composed("probe_speaker", f"init.encoder.source={tmp_path}", "vars.labels=[a,b]")
    adopt_configs(config)
    assert "num_layers" not in config.model.encoder
    probe = build(config, "model")
    assert isinstance(probe.encoder, ConvEncoder)
    assert probe.layer_weights().tolist() == [1]


def test_encoder_of_a_probe_is_frozen():
    probe = LayerProbe(nemo_sized(), vocab_size=5)
    for _ in range(2):
        assert not any(module.training for module in probe.encoder.modules())
        assert probe.head.training
        probe.train()
    assert not any(p.requires_grad for p in probe.encoder.parameters())


@pytest.mark.parametrize("contexts", [(None, "causal"), ("causal", None), (None, [3, 1])])
def test_kernels_keep_their_frames(contexts):
    old, new = (
        ConformerEncoder(num_layers=1, d_model=8, num_heads=2, conv_kernel_size=5, **sized(context))
        for context in contexts
    )
    kernels = realigned_kernels(new, old.state_dict(), {"conv_context_size": contexts[0]})
    (before, kernel), (after, moved) = (
        (model.layers[0].conv.depthwise_conv.context, weights)
        for model, weights in (
            (old, old.layers[0].conv.depthwise_conv.weight),
            (new, *kernels.values()),
        )
    )
    for offset in range(-4, 5):  # of a frame from the present one
        ours, theirs = offset + after[0], offset + before[0]
        if 0 <= ours < 5:
            wanted = kernel[..., theirs] if 0 <= theirs < 5 else 0 * kernel[..., 0]
            assert torch.equal(moved[..., ours], wanted)
    assert realigned_kernels(old, old.state_dict(), {"conv_context_size": contexts[0]}) == {}
    if contexts[0] is None:
        assert same(kernels, realigned_kernels(new, old.state_dict(), {"feat_in": 80}))


@pytest.mark.parametrize(
    ("make", "fresh"),
    [
        (lambda size: EncoderCTC(nemo_sized(1), size), {"head.weight", "head.bias"}),
        (lambda size: LayerProbe(nemo_sized(1), size), {"head.weight", "head.bias"}),
        (lambda size: DeepSpeech2(vocab_size=size, **TINY), {"head.0.weight"}),
        (lambda size: DeepSpeech2(vocab_size=size, **TINY, head_sizes=[7, 6]), {"head.2.weight"}),
    ],
)
def test_new_tokens_replace_only_the_output_layer(make, fresh, tmp_path):
    old, new = make(5), make(9)
    own, path = new.state_dict(), tmp_path / "old.safetensors"
    own = {name: value.clone() for name, value in own.items()}
    save_file({k: v + 1 for k, v in old.state_dict().items()}, path)
    load_part(new, Source("model", path, None), new_tokens=True)
    for name, value in new.state_dict().items():
        assert torch.equal(value, own[name] if name in fresh else old.state_dict()[name] + 1), name


def test_kernels_of_each_encoder_have_the_context_of_its_own_config():
    causal = ConformerEncoder(num_layers=1, d_model=8, num_heads=2, **sized("causal"))
    quantizer = ClusterQuantizer(EncoderLayers(causal, [1]), 8)
    model = nn.Module()
    model.encoder, model.quantizer = nemo_sized(1), quantizer
    context = {"conv_context_size": "causal"}
    saved = {"encoder": {}, "quantizer": {"features": {"encoder": context}}}
    assert realigned_kernels(model, model.state_dict(), saved) == {}
    moved = realigned_kernels(model, model.state_dict(), {"encoder": context})
    assert list(moved) == ["encoder.layers.0.conv.depthwise_conv.weight"]
    part = saved["quantizer"]
    assert realigned_kernels(quantizer, quantizer.state_dict(), part) == {}


def sized(context):
    return {"conv_context_size": context, "subsampling_conv_channels": 4}
