import pytest
import torch

from src.models.layers.mossformer import conv_module
from src.models.layers.mossformer.conv_module import CentredNorm, ConvModule, ScaleNorm, together
from src.models.layers.mossformer.gated_attention import Gate


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


@pytest.mark.parametrize("norm", [ScaleNorm, CentredNorm])
@pytest.mark.parametrize(("frames", "dropout"), [(1, 0.0), (16, 0.0), (40, 0.0), (40, 0.3)])
def test_module(monkeypatch, norm, frames, dropout):
    torch.manual_seed(0)
    modules = [ConvModule(8, width, norm(8), dropout) for width in (6, 4)]
    x = torch.randn(2, frames, 8, requires_grad=True)
    learnt = [weight for module in modules for weight in module.parameters()]

    def lean(x, *_):
        torch.manual_seed(1)
        return together(modules, x, None)

    def plain(x, *_):
        monkeypatch.setattr(conv_module, "eager_on_cpu", lambda x: False)
        return lean(x)

    assert_same(lean, plain, x, *learnt)


def test_gate():
    torch.manual_seed(0)
    heard, hidden = torch.randn(2, 2, 7, 12, dtype=torch.float64).requires_grad_().unbind()

    def plain(heard, hidden):
        (by_v, by_u), (v, u) = heard.chunk(2, dim=-1), hidden.chunk(2, dim=-1)
        return by_u * v * torch.sigmoid(by_v * u)

    assert_same(Gate.apply, plain, heard, hidden)
