import torch

from src.utils.lengths import padding_mask


def test_true_beyond_the_end():
    mask = padding_mask(torch.tensor([3, 0, 4]), 4)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
