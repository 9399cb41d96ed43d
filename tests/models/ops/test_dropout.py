import pytest
import torch

from src.models.ops.dropout import CpuDropout, dropout, plain_dropout


@pytest.mark.parametrize("function", [dropout, plain_dropout])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(1000, 333), (4, 50, 7), (7,)])
def test_fraction_scale_and_gradient(function, probability, shape):
    torch.manual_seed(0)
    x = torch.randn(shape).requires_grad_()
    y = function(x, probability, training=True)
    kept = y != 0
    if x.numel() > 100_000:
        assert kept.float().mean().item() == pytest.approx(1 - probability, abs=3e-3)
    torch.testing.assert_close(y[kept], x[kept] / (1 - probability), rtol=1e-4, atol=1e-6)
    y.sum().backward()
    expected = torch.where(kept, 1 / (1 - probability), 0.0)
    torch.testing.assert_close(x.grad, expected, rtol=1e-4, atol=1e-6)


def test_the_cpu_implementation_is_used():
    x = torch.ones(10, requires_grad=True)
    assert isinstance(dropout(x, 0.5, training=True).grad_fn, CpuDropout._backward_cls)


def test_neighbours_are_independent():
    torch.manual_seed(0)
    kept = dropout(torch.ones(400_000), 0.5, training=True).ne(0).float() - 0.5
    for distance in (1, 2, 3, 4, 8):
        assert (kept[distance:] * kept[:-distance]).mean().abs() < 0.002


def test_probabilities_of_0_and_1_and_evaluation():
    x = torch.randn(5)
    assert dropout(x, 0.3, training=False) is x
    assert dropout(x, 0.0, training=True) is x
    assert not dropout(x, 1.0, training=True).any()


def test_the_seed_determines_the_mask():
    x = torch.ones(100)
    torch.manual_seed(3)
    first = dropout(x, 0.5, training=True)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x, 0.5, training=True))
