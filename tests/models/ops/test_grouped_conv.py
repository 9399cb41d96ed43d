import pytest
import torch

from src.models.ops.grouped_conv import grouped_conv1d, plain_grouped_conv1d
from tests.models.ops.compare import assert_equal


@pytest.mark.parametrize("frames", [1, 40, 41])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("group_size", [1, 2, 3])
def test_fast_equals_plain(frames, dilation, group_size):
    torch.manual_seed(0)
    x = torch.randn(2, frames, 5 * group_size, requires_grad=True)
    weight = torch.randn(5, group_size, 7, requires_grad=True)
    inputs = [x, weight, dilation]
    assert_equal(grouped_conv1d, plain_grouped_conv1d, inputs, rtol=1e-4, atol=1e-4)


def test_other_devices_convolve_with_time_last():
    x, weight = torch.empty(2, 40, 10, device="meta"), torch.empty(5, 2, 7, device="meta")
    y = grouped_conv1d(x, weight, 2)
    assert y.shape == (2, 40, 5) and y.transpose(1, 2).is_contiguous()
