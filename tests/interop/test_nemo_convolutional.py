from pathlib import Path

import pytest
import torch

from src.interop.archive import read_archive
from src.interop.naming import fill
from src.interop.nemo_convolutional import nemo_names, our_names, read_encoder, write_encoder
from src.models.encoder_ctc import EncoderCTC
from src.models.jasper import ConvEncoder
from tests.golden import FIXTURES, golden

NAMES = ["quartznet", "jasper_dense", "citrinet"]


def load(name: str) -> tuple[EncoderCTC, dict, dict]:
    """The model of a fixture, its config and the weights of the file."""
    path = FIXTURES / f"asr_{name}_char.nemo"
    config, weights = read_archive(path)
    model = EncoderCTC(ConvEncoder(**read_encoder(config)), len(config["labels"]) + 1)
    ours = our_names(model.encoder, {k: v for k, v in weights.items() if "preproc" not in k})
    for part in ("weight", "bias"):  # NeMo's blank is the last class, ours the first
        ours[f"head.{part}"] = ours.pop(f"decoder.decoder_layers.0.{part}").roll(1, 0).squeeze(-1)
    fill(model, ours, path)
    return model.eval(), config, weights


@pytest.mark.parametrize("name", NAMES)
def test_equals_reference(name):
    model, _, _ = load(name)
    tensors, about = golden(f"asr_{name}_char")
    features, length = tensors["mid.features"], tensors["mid.features_length"]
    with torch.no_grad():
        encoded = model.encoder(spectrogram=features, spectrogram_length=length)
        outputs = model(spectrogram=features, spectrogram_length=length)
    wanted = tensors["out.length"]
    assert torch.equal(encoded["encoded_length"], wanted)
    assert torch.equal(outputs["log_probs_length"], wanted)
    assert sum(p.numel() for p in model.parameters()) == about["n_parameters"]
    for i, n in enumerate(wanted.tolist()):
        reference = tensors["mid.encoded"][i, :, :n]
        torch.testing.assert_close(encoded["encoded"][i, :, :n], reference, rtol=0, atol=2e-5)
        reference = tensors["out.log_probs"][i, :n].roll(1, 1)
        torch.testing.assert_close(outputs["log_probs"][i, :n], reference, rtol=0, atol=2e-5)
        with torch.no_grad():
            own = int(length[i])
            alone = model(
                spectrogram=features[i : i + 1, :, :own], spectrogram_length=length[i : i + 1]
            )
        torch.testing.assert_close(
            alone["log_probs"][0, :n], outputs["log_probs"][i, :n], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name):
    model, config, weights = load(name)
    again = nemo_names(
        model.encoder, {f"encoder.{k}": v for k, v in model.encoder.state_dict().items()}
    )
    encoder = {k: v for k, v in weights.items() if k.startswith("encoder.")}
    assert again.keys() == encoder.keys()
    assert all(torch.equal(again[name], value) for name, value in encoder.items())
    section = write_encoder(model.encoder)
    for theirs, ours in zip(config["encoder"]["jasper"], section["jasper"], strict=True):
        assert theirs.items() <= ours.items()
    theirs = {key: value for key, value in config["encoder"].items() if key != "jasper"}
    assert theirs.items() <= section.items()
    options = read_encoder({"encoder": section})
    assert ConvEncoder(**options).options == {**model.encoder.options, "blocks": options["blocks"]}
    assert read_encoder({"encoder": write_encoder(ConvEncoder(**options))}) == options


def test_names_of_groups_and_of_kernels_of_one():
    """A shuffle of channels takes one more place in NeMo's list."""
    blocks = [
        {"out_channels": 8, "kernel_size": 3, "repeat": 2, "groups": 2, "separable": True},
        {"out_channels": 8, "kernel_size": 1, "repeat": 2, "groups": 2, "se": True},
    ]
    encoder = ConvEncoder(4, blocks)
    names = nemo_names(encoder, {f"encoder.{k}": v for k, v in encoder.state_dict().items()})
    weights = [name for name in names if name.endswith("weight")]
    assert [name.removeprefix("encoder.encoder.") for name in weights] == [
        "0.mconv.0.conv.weight",
        "0.mconv.1.conv.weight",
        "0.mconv.2.weight",
        "0.mconv.6.conv.weight",
        "0.mconv.7.conv.weight",
        "0.mconv.8.weight",
        "1.mconv.0.conv.weight",
        "1.mconv.1.weight",
        "1.mconv.5.conv.weight",
        "1.mconv.6.weight",
        "1.mconv.8.fc.0.weight",
        "1.mconv.8.fc.2.weight",
    ]
    back = our_names(encoder, names)
    assert back.keys() == {f"encoder.{name}" for name in encoder.state_dict()}


def test_residual_mode_holds_for_the_blocks_after():
    block = {"filters": 4, "repeat": 1, "kernel": [3], "stride": [2], "dilation": [1]}
    block |= {"dropout": 0.0, "residual": True}
    section = {"_target_": "x.ConvASREncoder", "feat_in": 4, "activation": "silu"}
    section["jasper"] = [block | {"residual_mode": "stride_add"}, block | {"stride": 2}]
    options = read_encoder({"encoder": section})
    assert [b["residual_mode"] for b in options["blocks"]] == ["stride_add"] * 2
    assert ConvEncoder(**options).output_length(9) == 3
    assert options["activation"] == "swish"


@pytest.mark.parametrize(
    ("place", "key", "value", "words"),
    [
        ("encoder", "new_knob", 1, "encoder.new_knob: unknown parameter"),
        ("encoder", "conv_mask", False, "encoder.conv_mask: False is not supported, only True"),
        ("encoder", "normalization_mode", "layer", "encoder.normalization_mode: layer"),
        ("encoder", "quantize", True, "encoder.quantize"),
        ("encoder", "frame_splicing", 2, "encoder.frame_splicing"),
        ("encoder", "_target_", "x.ConformerEncoder", "only ConvASREncoder"),
        ("block", "new_knob", 1, r"encoder.jasper\[1\].new_knob: unknown parameter"),
        ("block", "heads", 4, r"encoder.jasper\[1\].heads"),
        ("block", "future_context", 2, r"encoder.jasper\[1\].future_context"),
        ("block", "kernel", [3, 5], r"encoder.jasper\[1\].kernel: \[3, 5\]"),
        ("encoder", "activation", "tanh", "activation: 'tanh'"),
        ("encoder", "residual_mode", "max", "residual_mode: 'max'"),
        ("block", "filters", "x", "out_channels: 'x'"),
        ("block", "residual_dense", True, "residual_dense of the blocks"),
    ],
)
def test_unsupported_options_are_named(place, key, value, words):
    config, _ = read_archive(Path(FIXTURES / "asr_quartznet_char.nemo"))
    (config["encoder"]["jasper"][1] if place == "block" else config["encoder"])[key] = value
    with pytest.raises(ValueError, match=words):
        ConvEncoder(**read_encoder(config))


def test_missing_options_are_named():
    config, _ = read_archive(Path(FIXTURES / "asr_quartznet_char.nemo"))
    del config["encoder"]["jasper"][1]["stride"]
    with pytest.raises(KeyError, match=r"encoder.jasper\[1\].stride"):
        read_encoder(config)
