import pytest
import torch

from src.models.ops.attention_gate import attention_gate, plain_attention_gate
from tests.models.ops.compare import assert_equal, saved_bytes


@pytest.mark.parametrize("shape", [(2, 7, 12), (1, 1, 2), (3, 40, 8)], ids=str)
def test_fast_equals_plain(shape):
    torch.manual_seed(0)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert_equal(attention_gate, plain_attention_gate, inputs, rtol=1e-10, atol=1e-10)


def test_only_the_inputs_are_saved():
    inputs = [torch.randn(2, 7, 12, requires_grad=True) for _ in range(2)]
    assert saved_bytes(attention_gate, inputs) == 0
    assert saved_bytes(plain_attention_gate, inputs) > 0
