import pytest
import torch
from torch import nn

from src.models.ops.silu_linear import SiluLinear, plain_silu_linear, silu_linear
from tests.models.ops.compare import assert_equal, saved_bytes


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(2, 7), (1, 1), (30,)], ids=str)
def test_fast_equals_plain(bias, probability, training, shape):
    torch.manual_seed(0)
    linear, x = nn.Linear(12, 5, bias), torch.randn(*shape, 12, requires_grad=True)
    inputs = [x, *linear.parameters()]
    assert_equal(
        lambda *_: silu_linear(x, linear, probability, training),
        lambda *_: plain_silu_linear(x, linear, probability, training),
        inputs,
    )


def test_the_cpu_implementation_is_used():
    y = silu_linear(torch.randn(2, 12, requires_grad=True), nn.Linear(12, 5), 0.3, True)
    assert isinstance(y.grad_fn, SiluLinear._backward_cls)


def test_saves_one_byte_per_element():
    x, linear = torch.randn(10, 100, requires_grad=True), nn.Linear(100, 5)
    inputs = [x, *linear.parameters()]
    assert saved_bytes(lambda x, *_: silu_linear(x, linear, 0.3, True), inputs) == 1000
    assert saved_bytes(lambda x, *_: plain_silu_linear(x, linear, 0.3, True), inputs) >= 5000
