import pytest
import torch

from src.models.ops.relu import plain_relu, relu
from tests.models.ops.compare import assert_equal


class TwiceReLU(torch.nn.Module):
    def forward(self, x):
        return relu(2 * x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_compiled_equals_plain(dtype):
    torch.manual_seed(0)
    x = (1e3 * torch.randn(5, 40)).to(dtype)
    grad = torch.randn(5, 40).to(dtype)
    inputs, outputs = [x.clone().requires_grad_() for _ in range(2)], []
    for function, leaf in zip((torch.compile(relu), plain_relu), inputs, strict=True):
        outputs.append(function(leaf))
        outputs[-1].backward(grad)
    assert torch.equal(*outputs)
    assert torch.equal(inputs[0].grad, inputs[1].grad)


def test_only_compiled_code_has_no_relu():
    graphs = []

    def keep_graph(module, _):
        graphs.append(module.code)
        return module

    torch.compile(TwiceReLU(), backend=keep_graph)(torch.ones(2, 3))
    assert "relu" not in graphs[0] and "abs" in graphs[0]
    exported = torch.export.export(TwiceReLU(), (torch.ones(2, 3),))
    assert "relu" in exported.graph_module.code
    assert_equal(relu, plain_relu, [torch.randn(3, 4, requires_grad=True)], rtol=0, atol=0)
