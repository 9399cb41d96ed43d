import numpy as np
import pytest
import torch
from torch import nn

from src.models.encoder_ctc import EncoderCTC
from src.models.jasper import ConvEncoder
from src.models.layers.jasper import jasper_block
from src.models.layers.jasper.activations import ACTIVATIONS
from tests.demo import CONFIGS
from tests.programs import run_code

BLOCK = {"out_channels": 6, "kernel_size": 5}


def build(name: str, vocab_size: int) -> EncoderCTC:
    """A model of src/configs/model, without memory for its weights."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(f"model/{name}")["model"]
    with torch.device("meta"):
        return instantiate(config, vocab_size=vocab_size, _convert_="all")


@pytest.mark.parametrize(
    ("name", "vocab_size", "parameters", "factor"),
    [
        ("quartznet15x5", 29, 18_924_381, 2),
        ("quartznet15x5", 34, 18_929_506, 2),
        ("jasper10x5dr", 29, 332_632_349, 2),
        ("citrinet_256", 1025, 10_259_729, 8),  # 10.3 M in table 1 of the paper
        ("citrinet_512", 1025, 36_994_321, 8),  # 37.0 M
        ("citrinet_1024", 1025, 142_171_409, 8),  # 142.0 M
    ],
)
def test_published_sizes(name, vocab_size, parameters, factor):
    model = build(name, vocab_size)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.output_length(1600) == 1600 // factor


def plain_block(x: torch.Tensor, block: nn.Module) -> torch.Tensor:
    """A block on one utterance [C, T], by torch's own modules in the order of the papers."""
    inputs, layers = x, block.sub_blocks
    for number, layer in enumerate(layers):
        for conv in (layer.depthwise, layer.conv):
            if conv is not None:
                size = conv.weight.shape[2]
                x = nn.functional.conv1d(
                    x, conv.weight, None, conv.stride, size // 2 * conv.dilation, conv.dilation,
                    conv.groups,
                )  # fmt: skip
        norm = layer.norm
        x = (x - norm.running_mean[:, None]) / (norm.running_var[:, None] + 1e-3).sqrt()
        x = x * norm.weight[:, None] + norm.bias[:, None]
        if layer.groups > 1:
            x = x[torch.arange(len(x)).reshape(layer.groups, -1).T.flatten()]
        if number < len(layers) - 1:
            x = x.clamp(min=0)
    if block.se is not None:
        hidden = (block.se.fc1.weight @ x.mean(1)).clamp(min=0)
        x = x * torch.sigmoid(block.se.fc2.weight @ hidden)[:, None]
    for branch in block.residuals:
        y = branch.conv.weight[:, :, 0] @ inputs[:, :: branch.conv.stride]
        norm = branch.norm
        y = (y - norm.running_mean[:, None]) / (norm.running_var[:, None] + 1e-3).sqrt()
        x = x + y * norm.weight[:, None] + norm.bias[:, None]
    return x.clamp(min=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"separable": True, "repeat": 3, "residual": True},
        {"repeat": 2, "dilation": 3, "groups": 2},
        {"separable": True, "groups": 3, "repeat": 2, "residual": True, "dilation": 2},
        {"separable": True, "se": True, "se_reduction_ratio": 3, "residual": True, "repeat": 2}
        | {"stride": 2, "stride_last": True, "residual_mode": "stride_add"},
        {"kernel_size": 8, "kernel_size_factor": 0.5, "stride": 3, "repeat": 2},
        {"kernel_size": 1, "residual": True, "residual_mode": "stride_add", "stride": 2},
    ],
    ids=str,
)
def test_block_equals_plain_computation(options):
    torch.manual_seed(0)
    model = ConvEncoder(6, [{**BLOCK, **options}])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for value in (module.weight.data, module.bias.data, module.running_mean):
                value.normal_()
            module.running_var.uniform_(0.5, 2)
    model.eval()
    x, length = torch.randn(2, 6, 31), torch.tensor([31, 18])
    encoded = model(x, length)
    for i, frames in enumerate(length):
        expected = plain_block(x[i, :, :frames], model.blocks[0])
        assert encoded["encoded_length"][i] == expected.shape[1]
        own = encoded["encoded"][i, :, : expected.shape[1]]
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
        assert not encoded["encoded"][i, :, expected.shape[1] :].any()


def test_statistics_of_a_batch_include_padding():
    """As in the reference; frames of padding are zero, also after the depthwise convolution."""
    torch.manual_seed(0)
    model = ConvEncoder(6, [{**BLOCK, "separable": True}])
    layer = model.blocks[0].sub_blocks[0]
    x, length = torch.randn(2, 6, 12), torch.tensor([12, 7])
    x[1, :, 7:] = 0
    mask = torch.arange(12) < length[:, None, None]
    y = nn.functional.conv1d(x, layer.depthwise.weight, padding=2, groups=6) * mask
    y = nn.functional.conv1d(y, layer.conv.weight)
    model(x, length)
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * y.mean((0, 2)))
    variance = y.transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(layer.norm.running_var, 0.9 + 0.1 * variance)


@pytest.mark.parametrize("activation", ["relu", "selu"])
def test_gradients_equal_those_without_hidden_masks(monkeypatch, activation):
    """Against the same network whose masks autograd sees."""
    torch.manual_seed(0)
    blocks = [
        {**BLOCK, "residual": True, "repeat": 2},
        {**BLOCK, "se": True, "se_reduction_ratio": 2},
    ]
    model = ConvEncoder(6, blocks, {"separable": True}, activation)
    x, length = torch.randn(2, 6, 20, requires_grad=True), torch.tensor([20, 13])
    weight = torch.randn(2, 6, 20)
    (model(x, length)["encoded"] * weight).sum().backward()
    grads = [x.grad.clone(), *(p.grad.clone() for p in model.parameters())]
    x.grad = None
    model.zero_grad()

    def plain(y, name, mask):
        return ACTIVATIONS[name](y).masked_fill(mask, 0.0)

    monkeypatch.setattr(jasper_block, "activate", plain)
    (model(x, length)["encoded"] * weight).sum().backward()
    for a, b in zip(grads, [x.grad, *(p.grad for p in model.parameters())], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_dense_residuals_reach_all_blocks_before():
    plain = {**BLOCK, "kernel_size": 1, "residual": True, "residual_dense": True}
    model = ConvEncoder(4, [plain, {**plain, "out_channels": 8}, plain, BLOCK])
    sizes = [[b.conv.weight.shape[1] for b in block.residuals] for block in model.blocks]
    assert sizes == [[4], [4, 6], [4, 6, 8], []]


def test_output_length_of_numbers_arrays_and_tensors():
    model = ConvEncoder(4, [{**BLOCK, "stride": 2}, {**BLOCK, "stride": 3}])
    frames, wanted = [1, 2, 5, 6, 7, 100], [1, 1, 1, 1, 2, 17]
    assert [model.output_length(n) for n in frames] == wanted
    array = model.output_length(np.array(frames))
    assert array.dtype == np.int64 and array.tolist() == wanted
    tensor = model.output_length(torch.tensor(frames))
    assert tensor.dtype == torch.int64 and tensor.tolist() == wanted


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"blocks": []}, "ConvEncoder.blocks: none"),
        ({"blocks": [{"kernel_size": 3}]}, r"blocks\[0\].out_channels: missing"),
        ({"blocks": [{**BLOCK, "filters": 3}]}, r"blocks\[0\].filters: no such key"),
        ({"blocks": [{**BLOCK, "kernel_size": 0}]}, r"blocks\[0\].kernel_size: 0"),
        ({"blocks": [{**BLOCK, "stride": 2, "dilation": 2}]}, r"dilation: 2; 1 with a stride"),
        ({"blocks": [{**BLOCK, "groups": 4}]}, "groups: 4; a divisor of 4 and 6"),
        ({"blocks": [{**BLOCK, "dropout": 1.0}]}, "dropout: 1.0"),
        ({"blocks": [{**BLOCK, "se": True}]}, "se_reduction_ratio: 8"),
        ({"blocks": [{**BLOCK, "residual": True, "stride": 2}]}, "residual_mode: 'add'"),
        ({"blocks": [{**BLOCK, "residual_dense": True}]}, "residual: false; true with"),
        ({"blocks": [BLOCK], "block_defaults": {"residual_mode": "max"}}, "residual_mode: 'max'"),
        ({"blocks": [BLOCK], "block_defaults": {"kernel_size_factor": 0.0}}, "kernel_size_factor"),
        ({"blocks": [BLOCK], "activation": "tanh"}, "activation: 'tanh'; relu, selu"),
        ({"blocks": [BLOCK], "feat_in": 0}, "ConvEncoder.feat_in: 0"),
    ],
)
def test_bad_options_are_named(bad, words):
    with pytest.raises(ValueError, match=words):
        ConvEncoder(**{"feat_in": 4, **bad})


def test_residual_of_a_strided_block():
    options = {**BLOCK, "residual": True, "residual_mode": "stride_add", "stride": 2, "repeat": 2}
    with pytest.raises(ValueError, match="stride_last: false; true for a residual"):
        ConvEncoder(4, [options])
    with pytest.raises(ValueError, match="stride: 2; 1 with residual_dense"):
        ConvEncoder(4, [{**options, "stride_last": True, "residual_dense": True}])


def test_dropout_only_in_training():
    torch.manual_seed(0)
    model = EncoderCTC(ConvEncoder(6, [{**BLOCK, "dropout": 0.5}]), 5)
    x, length = torch.randn(2, 6, 30), torch.tensor([30, 30])
    assert not torch.equal(model(x, length)["log_probs"], model(x, length)["log_probs"])
    model.eval()
    assert torch.equal(model(x, length)["log_probs"], model(x, length)["log_probs"])


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_output_is_float32(precision):
    torch.manual_seed(0)
    blocks = [{**BLOCK, "separable": True, "se": True, "se_reduction_ratio": 2}, BLOCK]
    model = EncoderCTC(ConvEncoder(6, blocks), 5)
    x, length = torch.randn(2, 6, 30), torch.tensor([30, 22])
    wanted = model(x, length)["log_probs"]
    with torch.autocast("cpu", precision):
        output = model(x, length)["log_probs"]
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, wanted, atol=0.1, rtol=0.1)
    output.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


COMPILED = """
import copy
import torch
from src.models.encoder_ctc import EncoderCTC
from src.models.jasper import ConvEncoder

block = {"out_channels": 6, "kernel_size": 5, "separable": True, "repeat": 2, "residual": True}
model = EncoderCTC(ConvEncoder(6, [block, block | {"se": True, "se_reduction_ratio": 2}]), 5)
twin = copy.deepcopy(model)
x, length = torch.randn(2, 6, 30), torch.tensor([30, 22])
plain = twin(x, length)["log_probs"]
plain.square().sum().backward()
model.compile(backend="aot_eager")  # traced as for a GPU, without its kernels
compiled = model(x, length)["log_probs"]
compiled.square().sum().backward()
torch.testing.assert_close(compiled, plain)
for a, b in zip(model.parameters(), twin.parameters()):
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
"""


def test_compiled_equals_plain():
    """In a process without the shape checks, which the compiler can't trace."""
    run_code(COMPILED)
