import gzip
import io
import pickle
import tarfile
from pathlib import Path

import pytest
import torch
import yaml

from src.interop.archive import CONFIG, WEIGHTS, read_archive, write_archive
from src.interop.nemo import (
    load_features,
    load_nemo,
    load_options,
    nemo_name,
    our_name,
    save_nemo,
    to_nemo,
)
from src.interop.nemo_config import read_encoder, read_features, write
from src.models.conformer import ConformerEncoder
from src.models.layers.nest.block_mask import BlockMask
from src.models.nest import NEST
from src.transforms.features.log_mel import LogMel
from tests.golden import FIXTURES, golden, part

NEMO = FIXTURES / "nest_model.nemo"


def rewritten(path: Path, change=lambda config, weights: None) -> Path:
    """The fixture with something else in it."""
    config, weights = read_archive(NEMO)
    change(config, weights)
    write_archive(path, config, weights)
    return path


def with_member(path: Path, name: str, data: bytes = b"x", kind=tarfile.REGTYPE) -> Path:
    """The fixture with one more member, at the front."""
    with tarfile.open(path, "w") as out, tarfile.open(NEMO) as source:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, len(data) if kind == tarfile.REGTYPE else 0
        member.linkname = "/etc/passwd"
        out.addfile(member, io.BytesIO(data))
        for other in source:
            out.addfile(other, source.extractfile(other))
    return path


def test_fixture_has_reference_weights():
    tensors, _ = golden("nest_model")
    converted = to_nemo(load_nemo(NEMO).state_dict())
    for name, value in part(tensors, "state.").items():
        if not name.startswith("preprocessor."):
            assert torch.equal(converted[name], value)


def test_round_trip(tmp_path):
    model, features = load_nemo(NEMO), load_features(NEMO)
    save_nemo(model, tmp_path / "out.nemo", features)
    before, after = read_archive(NEMO), read_archive(tmp_path / "out.nemo")
    assert before[1].keys() == after[1].keys()
    for name, value in before[1].items():
        assert torch.equal(after[1][name], value) and after[1][name].dtype == value.dtype
    same = {k: v for k, v in after[0].items() if k not in ("preprocessor", "encoder")}
    assert same.items() <= before[0].items()
    assert before[0]["encoder"].items() <= after[0]["encoder"].items()
    again = load_nemo(tmp_path / "out.nemo")
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_config_of_changed_model(tmp_path):
    encoder = ConformerEncoder(
        feat_in=40,
        num_layers=1,
        d_model=16,
        num_heads=2,
        subsampling_factor=4,
        subsampling_conv_channels=4,
        att_context_size=[[4, 1], [-1, 1]],
        att_context_style="chunked_limited",
        conv_context_size="causal",
        use_bias=False,
        feat_out=12,
    )
    model = NEST(encoder, BlockMask(8, 0.2, allow_overlap=False), 32, 3, 7, mask_value=0.5)
    options = {"symmetric_window": True, "drop_last_frame": True, "pad_to": 8}
    features = LogMel(n_mels=40, preemphasis=0.97, **options)
    save_nemo(model, tmp_path / "out.nemo", features)
    again = load_nemo(tmp_path / "out.nemo")
    assert again.encoder.options == {
        **encoder.options,
        "att_context_size": [[4, 1], [-1, 1]],
    }
    assert (again.masking.block_size, again.masking.allow_overlap) == (8, False)
    assert load_features(tmp_path / "out.nemo").pad_to == 8
    batch = {"spectrogram": torch.randn(2, 40, 64), "spectrogram_length": torch.tensor([64, 30])}
    batch["seed"] = torch.tensor([1, 2])
    model.eval(), again.eval()
    first, second = model(**batch), again(**batch)
    for name in ("encoded", "tokens", "logits"):
        assert torch.equal(first[name], second[name])
    assert load_options(tmp_path / "out.nemo")[0]["subsampling_factor"] == 4


def test_unsupported_front_end_raises(tmp_path):
    with pytest.raises(ValueError, match="preemphasis=0.97"):
        save_nemo(load_nemo(NEMO), tmp_path / "out.nemo", LogMel())
    assert not list(tmp_path.iterdir())


def test_mask_after_subsampling_raises(tmp_path):
    encoder = ConformerEncoder(num_layers=1, d_model=16, num_heads=2)
    model = NEST(encoder, BlockMask(), mask_position="after_subsampling")
    with pytest.raises(ValueError, match="only before_subsampling"):
        save_nemo(model, tmp_path / "out.nemo")

    def change(config, weights):
        config["mask_position"] = "post_conv"

    with pytest.raises(ValueError, match="post_conv is not supported"):
        load_nemo(rewritten(tmp_path / "x.nemo", change))


def test_adapters_raise(tmp_path):
    adapters = {"own": {"dim": 4}}
    encoder = ConformerEncoder(num_layers=1, d_model=16, num_heads=2, adapters=adapters)
    with pytest.raises(ValueError, match=r"encoder.adapters: NeMo has them in recognisers only"):
        save_nemo(NEST(encoder, BlockMask()), tmp_path / "out.nemo")
    assert not list(tmp_path.iterdir())


def test_renaming_is_invertible():
    for name in NEST(
        ConformerEncoder(num_layers=2, d_model=16, num_heads=2), BlockMask()
    ).state_dict():
        assert our_name(nemo_name(name)) == name


def test_compressed_archives(tmp_path):
    path = tmp_path / "old.nemo"
    path.write_bytes(gzip.compress(NEMO.read_bytes()))
    assert load_nemo(path)


class Call:
    def __reduce__(self):
        return (Path("called").write_text, ("here",))


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_code_is_not_executed(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    data = io.BytesIO()
    if legacy:
        pickle.dump({"encoder.x": Call()}, data)
    else:
        torch.save({"encoder.x": Call()}, data)
    path = with_member(tmp_path / "bad.nemo", "first")
    with tarfile.open(path, "w") as out:
        config = yaml.safe_dump(read_archive(NEMO)[0]).encode()
        for name, content in ((CONFIG, config), (WEIGHTS, data.getvalue())):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    said = "bad.nemo: refused, model_weights.ckpt is damaged or holds more than plain tensors.$"
    with pytest.raises(ValueError, match=said) as error:
        load_nemo(path)
    assert str(error.value).startswith(str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["bad.nemo"]


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt"])
def test_path_outside_of_archive_raises(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = with_member(tmp_path / "bad.nemo", name)
    with pytest.raises(ValueError, match="lies outside of the archive"):
        load_nemo(path)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.nemo"]


def test_link_raises(tmp_path):
    path = with_member(tmp_path / "bad.nemo", "model_config.yaml", kind=tarfile.SYMTYPE)
    with pytest.raises(ValueError, match="not a plain file"):
        load_nemo(path)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99])
def test_truncated_archive_raises(tmp_path, fraction):
    data = NEMO.read_bytes()
    path = tmp_path / "cut.nemo"
    path.write_bytes(
        data[: int(fraction * len(data)) - 20_000 if fraction > 0.9 else int(fraction * len(data))]
    )
    with pytest.raises(
        ValueError,
        match=r"cut.nemo: (truncated or not a .nemo file.|not a .nemo file, .* is missing.)$",
    ):
        load_nemo(path)


def test_other_model_raises(tmp_path):
    def change(config, weights):
        config["target"] = "nemo.collections.asr.models.EncDecCTCModelBPE"

    with pytest.raises(
        ValueError,
        match="target nemo.collections.asr.models.EncDecCTCModelBPE is not supported, only",
    ):
        load_nemo(rewritten(tmp_path / "x.nemo", change))


def test_mismatched_weights_are_named(tmp_path):
    def layer_more(config, weights):
        config["encoder"]["n_layers"] = 3

    def layer_less(config, weights):
        config["encoder"]["n_layers"] = 1

    def wider(config, weights):
        config["encoder"]["conv_kernel_size"] = 5

    for change, words in [
        (layer_more, "is missing"),
        (layer_less, "is unexpected"),
        (wider, "has shape"),
    ]:
        with pytest.raises(ValueError, match=words):
            load_nemo(rewritten(tmp_path / "x.nemo", change))


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("encoder", "self_attention_model", "abs_pos", "only rel_pos"),
        ("encoder", "subsampling", "vggnet", "dw_striding or striding"),
        ("encoder", "new_knob", 1, "encoder.new_knob: unknown parameter"),
        ("encoder", "reduction", "pooling", "encoder.reduction"),
        ("encoder", "_target_", "x.SqueezeformerEncoder", "only ConformerEncoder"),
        ("quantizer", "freeze", False, "quantizer.freeze"),
        ("quantizer", "combine_time_steps", 4, "only 8"),
        ("masking", "freeze", False, "masking.freeze"),
        ("decoder", "num_decoders", 2, "only 1"),
        ("decoder", "use_bias", False, "decoder.use_bias"),
        ("decoder", "num_classes", 7, "decoder.num_classes"),
        ("decoder", "feat_in", 1, "decoder.feat_in"),
        ("decoder", "foo", 1, "decoder.foo: unknown parameter"),
        ("loss", "combine_time_steps", 4, "loss.combine_time_steps"),
        ("loss", "foo", 1, "loss.foo: unknown parameter"),
        ("quantizer", "feat_in", 1, "quantizer.feat_in"),
        ("encoder", "n_layers", None, "model_config.yaml"),
        ("encoder", "att_context_size", [], "model_config.yaml"),
        ("encoder", "n_heads", 5, "x.nemo: model_config.yaml: .*5 heads"),
        ("masking", "mask_prob", "x", "model_config.yaml"),
    ],
)
def test_config_option_is_supported_or_raises(tmp_path, section, key, value, words):
    def change(config, weights):
        config[section][key] = value

    with pytest.raises(ValueError, match=words):
        load_nemo(rewritten(tmp_path / "x.nemo", change))


def test_unsupported_front_end_options_raise():
    config = read_archive(NEMO)[0]
    for key, value in [
        ("window", "hamming"),
        ("normalize", "fixed"),
        ("mel_norm", "none"),
        ("x", 1),
    ]:
        changed = {"preprocessor": {**config["preprocessor"], key: value}}
        with pytest.raises(ValueError, match=key):
            read_features(changed)


def test_config_of_nest_l_is_complete():
    written = write(NEST(ConformerEncoder(num_layers=1), BlockMask()), load_features(NEMO))
    public = read_archive(NEMO)[0]
    assert public.keys() - {"target", "nemo_version"} <= written.keys()
    for section in ("encoder", "masking", "quantizer", "decoder", "loss", "preprocessor"):
        assert public[section].keys() <= written[section].keys()
    assert read_encoder(written)["num_layers"] == 1


@pytest.mark.parametrize("start", [b"BZh9junk", b"\xfd7zXZ\x00junk", b"\x1f\x8bjunk", b"junk"])
def test_damaged_compression_raises(tmp_path, start):
    path = tmp_path / "bad.nemo"
    path.write_bytes(start + bytes(range(256)) * 8)
    with pytest.raises(ValueError, match=r"bad.nemo: truncated or not a .nemo file.$"):
        load_nemo(path)


@pytest.mark.parametrize("data", [b"", b"junk", b"[" * 100_000])
def test_damaged_members_raise(tmp_path, data):
    for member in (CONFIG, WEIGHTS):
        path = tmp_path / "bad.nemo"
        members = {CONFIG: yaml.safe_dump(read_archive(NEMO)[0]).encode(), WEIGHTS: b"x"}
        with tarfile.open(path, "w") as out:
            for name, content in (members | {member: data}).items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
        with pytest.raises(ValueError, match=r"bad.nemo: .*\.$"):
            load_nemo(path)


def test_other_convolution_weights_are_named(tmp_path):
    def change(config, weights):
        weights["encoder.pre_encode.conv.4.weight"] = torch.zeros(1)

    with pytest.raises(ValueError, match="conv.4.weight is unexpected"):
        load_nemo(rewritten(tmp_path / "x.nemo", change))


def test_other_front_end_sizes_are_named(tmp_path):
    def change(config, weights):
        weights["preprocessor.featurizer.fb"] = torch.zeros(1, 3, 257)

    path = rewritten(tmp_path / "x.nemo", change)
    with pytest.raises(ValueError, match="featurizer.fb has shape"):
        load_features(path)
    with pytest.raises(ValueError, match="features with 64 mel bands"):
        save_nemo(load_nemo(NEMO), tmp_path / "y.nemo", LogMel(n_mels=64))
