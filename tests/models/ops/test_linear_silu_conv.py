import pytest
import torch
import torch.nn.functional as F

from src.models.ops import chunked
from src.models.ops.linear_silu_conv import (
    LinearSiluConv,
    linear_silu_conv,
    plain_linear_silu_conv,
)
from tests.models.ops.compare import assert_equal, padding_mask, saved_bytes


def normalize(x):
    return F.layer_norm(x, x.shape[2:])


def parameters(frames):
    torch.manual_seed(0)
    shapes = [(2, frames, 8), (6, 8), (6,), (6, 1, 17)]
    x, *weights = (torch.randn(shape, requires_grad=True) for shape in shapes)
    return x, normalize, *weights


@pytest.mark.parametrize("frames", [1, 16, 40])
@pytest.mark.parametrize("with_padding", [False, True])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_fast_equals_plain(frames, with_padding, probability):
    mask = padding_mask(frames) if with_padding else None
    inputs = [*parameters(frames), mask, probability, True]
    assert_equal(linear_silu_conv, plain_linear_silu_conv, inputs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frames", [5, 16, 17, 90])
@pytest.mark.parametrize("with_padding", [False, True])
def test_inference_in_chunks_equals_plain(monkeypatch, frames, with_padding):
    monkeypatch.setattr(chunked, "CHUNK_SIZE", 16)
    mask = padding_mask(frames) if with_padding else None
    inputs = [*parameters(frames), mask, 0.3, False]
    with torch.no_grad():
        fast, plain = linear_silu_conv(*inputs), plain_linear_silu_conv(*inputs)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


def test_memory_efficient_backward_without_padding():
    y = linear_silu_conv(*parameters(20), None, 0.3, True)
    assert isinstance(y.grad_fn, LinearSiluConv._backward_cls)
    y = linear_silu_conv(*parameters(20), padding_mask(20), 0.3, True)
    assert not isinstance(y.grad_fn, LinearSiluConv._backward_cls)


def test_memory_saved_for_backward():
    inputs = [*parameters(1000), None, 0.3, True]
    outputs = 2 * 1000 * 6
    fast, plain = (saved_bytes(f, inputs) for f in (linear_silu_conv, plain_linear_silu_conv))
    assert fast == pytest.approx((4 + 1) * outputs, rel=0.05)  # input of SiLU, mask of dropout
    assert plain > 2 * fast
