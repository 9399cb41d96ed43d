import pytest
import torch

from src.models.ops.rotary import plain_rotate_pairs, rotate_pairs
from tests.models.ops.compare import assert_equal


@pytest.mark.parametrize("shape", [(2, 9, 12), (4, 2, 9, 12), (2, 9, 8)])
def test_fast_equals_plain(shape):
    torch.manual_seed(0)
    angles = torch.randn(9, 4)
    x = torch.randn(shape, requires_grad=True)
    assert_equal(rotate_pairs, plain_rotate_pairs, [x, angles.cos(), angles.sin()])


def test_input_and_expanded_gradient_stay_as_they_are():
    angles = torch.randn(9, 4)
    x = torch.randn(2, 9, 12, requires_grad=True)
    before = x.detach().clone()
    y = rotate_pairs(x, angles.cos(), angles.sin())
    grad = torch.ones(1).expand(2, 9, 12)
    y.backward(grad)
    assert torch.equal(x, before) and torch.equal(grad, torch.ones(2, 9, 12))
