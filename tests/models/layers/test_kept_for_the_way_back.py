import pytest
import torch
import torch.nn.functional as F

from src.models.layers.depthwise_conv import SiluConv, depthwise
from src.models.layers.gated_attention import Gate


def assert_same(fast, plain, *inputs):
    """Values and gradients."""
    found, wanted = fast(*inputs), plain(*inputs)
    torch.testing.assert_close(found, wanted)
    above = torch.randn_like(wanted)
    for a, b in zip(
        torch.autograd.grad(found, inputs, above),
        torch.autograd.grad(wanted, inputs, above),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("frames", [1, 16, 40])
def test_silu_and_convolution(frames):
    torch.manual_seed(0)
    x = torch.randn(2, frames, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 1, 17, dtype=torch.float64, requires_grad=True)
    assert_same(SiluConv.apply, lambda x, w: depthwise(F.silu(x), w), x, weight)


def test_gate():
    torch.manual_seed(0)
    heard, hidden = torch.randn(2, 2, 7, 12, dtype=torch.float64).requires_grad_().unbind()

    def plain(heard, hidden):
        (by_v, by_u), (v, u) = heard.chunk(2, dim=-1), hidden.chunk(2, dim=-1)
        return by_u * v * torch.sigmoid(by_v * u)

    assert_same(Gate.apply, plain, heard, hidden)
