import torch

from src.models.ops.masking import mask_padding
from tests.models.ops.compare import padding_mask


def test_zeros_in_the_padding():
    x, mask = torch.full((2, 5, 3), torch.nan), padding_mask(5)
    y = mask_padding(x, mask)
    assert y[0].isnan().all() and y[1, :3].isnan().all() and not y[1, 3:].any()
    assert mask_padding(x, None) is x
