import torch

from src.utils.lengths import padding_mask, without_padding


def test_true_beyond_the_end():
    mask = padding_mask(torch.tensor([3, 0, 4]), 4)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]]


def test_signals_without_padding():
    signal = torch.full((2, 3, 4), torch.nan, dtype=torch.bfloat16)
    signal[0, :, :2] = 1
    result = without_padding(signal, torch.tensor([2, 0]))
    assert result.dtype == torch.float32
    assert result.sum((1, 2)).tolist() == [6, 0]
