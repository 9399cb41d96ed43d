import pytest
import torch
import torch.nn.functional as F

from src.models.ops.depthwise_conv import DepthwiseConv, depthwise


def plain(x, weight, bias, context, dilation=1):
    padded = F.pad(x.transpose(1, 2), context)
    y = F.conv1d(padded, weight, bias, dilation=dilation, groups=x.shape[2])
    return y.transpose(1, 2)


@pytest.mark.parametrize("context", [(2, 2), (4, 0), (1, 3), (0, 4)])
def test_contexts(context):
    torch.manual_seed(0)
    layer, x = DepthwiseConv(6, 5, context, bias=True), torch.randn(2, 20, 6)
    torch.testing.assert_close(layer(x), plain(x, layer.weight, layer.bias, context))


@pytest.mark.parametrize("frames", [1, 2, 40, 41])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("kernel", [7, 17])
def test_values_and_gradients(frames, dilation, kernel):
    torch.manual_seed(0)
    x = torch.randn(2, frames, 6, requires_grad=True)
    weight = torch.randn(6, 1, kernel, requires_grad=True)
    bias = torch.randn(6, requires_grad=True)
    context = (kernel // 2 * dilation, kernel // 2 * dilation)
    found, wanted = (
        depthwise(x, weight, bias, dilation),
        plain(x, weight, bias, context, dilation),
    )
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    above = torch.randn_like(wanted)
    for a, b in zip(
        torch.autograd.grad(found, (x, weight, bias), above),
        torch.autograd.grad(wanted, (x, weight, bias), above),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
