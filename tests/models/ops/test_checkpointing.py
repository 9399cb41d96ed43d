import pytest
import torch
from torch import nn

from src.models.ops.checkpointing import checkpointed
from src.models.ops.dropout import dropout
from tests.models.ops.compare import assert_equal


@pytest.mark.parametrize("frames", [1, 20])
@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_fast_equals_plain(frames, probability):
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 6), torch.randn(2, frames, 6, requires_grad=True)
    calls = []

    def function(x, *_):
        calls.append(torch.is_grad_enabled())
        return dropout(torch.tanh(linear(x)), probability, True)

    inputs = [x, *linear.parameters()]
    options = {"has_dropout": probability > 0}
    assert_equal(lambda *i: checkpointed(function, *i, **options), function, inputs)
    assert len(calls) == 3  # twice with checkpointing, once without
    with torch.no_grad():
        checkpointed(function, x)
    assert len(calls) == 4
