import json

import pytest
import torch

from src.interop.clearervoice import load_clearervoice, save_clearervoice, to_clearervoice
from src.models.mossformer2 import MossFormer2
from tests.golden import FIXTURES, golden, part

SIZES = {"full": {"d_model": 512, "num_layers": 24}, "small": {"d_model": 384, "num_layers": 25}}


def reference_weights():
    tensors, _ = golden("mossformer2_base")
    return {name: value.float() for name, value in part(tensors, "state.").items()}


def tiny(**options):
    torch.manual_seed(0)
    return MossFormer2(**{"d_model": 8, "num_layers": 2, "kernel_size": 4, **options})


@pytest.mark.parametrize("size", SIZES)
def test_names_and_shapes_of_parameters(size):
    table = json.loads((FIXTURES / f"table_mossformer2_{size}.json").read_text())
    with torch.device("meta"):
        model = MossFormer2(**SIZES[size])
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) == table["summary"]["total"]
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    assert trained == table["summary"]["trainable"]
    shapes = {
        name: list(value.shape) for name, value in to_clearervoice(model.state_dict()).items()
    }
    assert shapes == {row["name"]: row["shape"] for row in table["state"]}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("whole", [True, False])
def test_checkpoint_layouts(tmp_path, prefix, whole):
    weights = {prefix + name: value for name, value in reference_weights().items()}
    content = {"model": weights, "optimizer": {"state": {}}, "epoch": 3} if whole else weights
    path = tmp_path / "model.ckpt-3-10.pt"
    torch.save(content, path)
    model = load_clearervoice(path)
    assert model.options["num_layers"] == 2 and model.options["d_model"] == 64
    back = to_clearervoice(model.state_dict())
    for name, value in reference_weights().items():
        torch.testing.assert_close(back[name], value)


@pytest.mark.parametrize("options", [{}, {"num_speakers": 3}, {"num_layers": 11}], ids=str)
def test_round_trip(tmp_path, options):
    model, path = tiny(**options), tmp_path / "model.pt"
    save_clearervoice(model, path)
    again = load_clearervoice(path)
    assert again.options == model.options
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_model_without_fsmn_is_only_read(tmp_path):
    model, path = tiny(use_fsmn=False), tmp_path / "model.pt"
    with pytest.raises(ValueError, match=r"model.pt: ClearerVoice has no MossFormer2 without FSMN"):
        save_clearervoice(model, path)
    assert not path.exists()
    torch.save({"model": to_clearervoice(model.state_dict())}, path)
    assert load_clearervoice(path).options == model.options


def break_name(weights):
    weights["mask_net.surprise"] = torch.zeros(1)


def break_shape(weights):
    weights["mask_net.norm.weight"] = torch.zeros(9)


def break_absent(weights):
    del weights["mask_net.output.0.bias"]


def break_kind(weights):
    del weights["enc.conv1d.weight"]


def break_ours(weights):
    weights["mask_net.speaker_proj.weight"] = torch.zeros(1)


def break_constant(weights):
    weights["mask_net.pos_enc.inv_freq"] = torch.zeros(3)


def break_twice(weights):
    weights["module.enc.conv1d.weight"] = weights["enc.conv1d.weight"]


def break_odd(weights):
    weights["enc.conv1d.weight"] = weights["enc.conv1d.weight"][:, :, :3]


def break_number(weights):
    name = next(name for name in weights if ".layers.0." in name)
    weights[name.replace(".layers.0.", ".layers.99999999.")] = weights[name]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (break_number, "layers.99999999"),
        (break_ours, "mask_net.speaker_proj.weight is unexpected"),
        (break_constant, "inv_freq has shape"),
        (break_twice, "with `module.` and without"),
        (break_odd, "kernel_size is 3"),
        (break_name, "mask_net.surprise is unexpected"),
        (break_shape, "mask_net.norm.weight has shape"),
        (break_absent, "mask_net.value.bias is missing"),
        (break_kind, "no weights of a MossFormer2"),
    ],
)
def test_mismatched_weights_raise(tmp_path, fault, said):
    path = tmp_path / "model.pt"
    weights = to_clearervoice(tiny().state_dict())
    fault(weights)
    torch.save({"model": weights}, path)
    with pytest.raises(ValueError, match=said) as error:
        load_clearervoice(path)
    assert str(path) in str(error.value)


class Call:
    def __reduce__(self):
        return print, ("ran",)


def test_pickled_code_is_not_executed(tmp_path, capsys):
    path = tmp_path / "model.pt"
    torch.save({"model": {"enc.conv1d.weight": Call()}}, path)
    with pytest.raises(ValueError, match="refused"):
        load_clearervoice(path)
    assert "ran" not in capsys.readouterr().out


def test_truncated_file_raises(tmp_path):
    path = tmp_path / "model.pt"
    save_clearervoice(tiny(), path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"model\.pt: refused"):
        load_clearervoice(path)
