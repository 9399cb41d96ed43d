import pytest
import torch
import torch.nn.functional as F

from src.models.layers.mossformer.masked_norm import MaskedNorm
from tests.models.ops.compare import padding_mask


@pytest.mark.parametrize("axes", [(1, 2), (1,)])
@pytest.mark.parametrize("with_padding", [False, True])
def test_equals_torch_on_single_items(axes, with_padding):
    torch.manual_seed(0)
    norm, x = MaskedNorm(6, axes, eps=1e-5), torch.randn(2, 20, 6) + 1
    for parameter in norm.parameters():
        parameter.data = torch.randn(6)
    mask = padding_mask(20) if with_padding else None
    y = norm(x, mask)
    for item, length in enumerate((20, 11 if with_padding else 20)):
        alone = x[item : item + 1, :length].transpose(1, 2)
        groups = 1 if axes == (1, 2) else 6
        expected = F.group_norm(alone, groups, norm.weight, norm.bias).transpose(1, 2)
        torch.testing.assert_close(y[item : item + 1, :length], expected, rtol=1e-4, atol=1e-5)
