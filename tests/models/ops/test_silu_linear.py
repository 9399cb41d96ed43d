import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.models.ops.dropout import dropout
from src.models.ops.silu_linear import silu_linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_plain_one(bias, probability, training):
    torch.manual_seed(0)
    linear, x = nn.Linear(12, 5, bias), torch.randn(2, 7, 12, requires_grad=True)
    found = []
    for fast in (True, False):
        torch.manual_seed(1)
        if fast:
            y = silu_linear(x, linear, probability, training)
        else:
            y = linear(dropout(F.silu(x), probability, training))
        above = torch.ones_like(y).cumsum(1)
        found.append([y, *torch.autograd.grad(y, [x, *linear.parameters()], above)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
