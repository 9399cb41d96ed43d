import pytest
import torch
import torch.nn.functional as F

from src.models.ops.depthwise_conv import (
    DepthwiseConv,
    depthwise_conv1d,
    depthwise_conv1d_backward,
    plain_depthwise_conv1d,
)
from tests.models.ops.compare import assert_equal


@pytest.mark.parametrize("frames", [1, 2, 40, 41])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [7, 17])
@pytest.mark.parametrize("with_bias", [True, False])
def test_fast_equals_plain(frames, dilation, kernel_size, with_bias):
    torch.manual_seed(0)
    x = torch.randn(2, frames, 6, requires_grad=True)
    weight = torch.randn(6, 1, kernel_size, requires_grad=True)
    bias = torch.randn(6, requires_grad=True) if with_bias else None
    inputs = [x, weight, bias, dilation]
    assert_equal(depthwise_conv1d, plain_depthwise_conv1d, inputs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 40, 41])
@pytest.mark.parametrize("stride", [2, 3])
def test_fast_equals_plain_with_stride(frames, stride):
    torch.manual_seed(0)
    x = torch.randn(2, frames, 6, requires_grad=True)
    weight = torch.randn(6, 1, 7, requires_grad=True)
    inputs = [x, weight, None, 1, stride]
    assert_equal(depthwise_conv1d, plain_depthwise_conv1d, inputs, rtol=1e-4, atol=1e-4)


def test_other_devices_convolve_with_time_last():
    x, weight = torch.empty(2, 40, 6, device="meta"), torch.empty(6, 1, 7, device="meta")
    y = depthwise_conv1d(x, weight, stride=2)
    assert y.shape == (2, 20, 6) and y.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("frames", [1, 40])
def test_backward_equals_autograd(frames):
    torch.manual_seed(0)
    x = torch.randn(2, frames, 6, requires_grad=True)
    weight = torch.randn(6, 1, 7, requires_grad=True)
    grad = torch.randn(2, frames, 6)
    expected = torch.autograd.grad(plain_depthwise_conv1d(x, weight), (x, weight), grad)
    for a, b in zip(depthwise_conv1d_backward(grad, x, weight), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("context", [(2, 2), (4, 0), (1, 3), (0, 4)])
def test_module_with_any_context(context):
    torch.manual_seed(0)
    layer, x = DepthwiseConv(6, 5, context, bias=True), torch.randn(2, 20, 6)
    padded = F.pad(x.transpose(1, 2), context)
    expected = F.conv1d(padded, layer.weight, layer.bias, groups=6).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected)
