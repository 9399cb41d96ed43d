import pytest
import torch

from src.models.ops.prelu import plain_prelu, prelu
from tests.models.ops.compare import assert_equal


@pytest.mark.parametrize("slopes", [1, 6])
@pytest.mark.parametrize("transposed", [False, True])
def test_fast_equals_plain(slopes, transposed):
    torch.manual_seed(0)
    x = torch.randn(2, 6, 9).transpose(1, 2) if transposed else torch.randn(2, 9, 6)
    x[0, 0] = 0.0
    slope = torch.randn(slopes, requires_grad=True)
    assert_equal(prelu, plain_prelu, [x.requires_grad_(), slope], rtol=1e-5, atol=1e-6)


def test_types_of_mixed_precision():
    torch.manual_seed(0)
    slope = torch.full((6,), 0.25, requires_grad=True)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(2, 9, 6, dtype=dtype, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            y = prelu(x, slope)
        y.sum().backward()
        assert y.dtype == x.grad.dtype == dtype
        expected = torch.where(x > 0, 1.0, 0.25).to(dtype)
        torch.testing.assert_close(x.grad, expected)
    assert slope.grad.dtype == torch.float32
