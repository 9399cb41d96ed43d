import pytest
import torch

from src.models.layers.deepspeech.masked_conv import MaskedConv


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 2), (3, 4)])
@pytest.mark.parametrize("kernel", [(1, 1), (5, 3), (11, 7)])
def test_output_size_is_that_of_the_convolution(kernel, stride):
    layer = MaskedConv(1, 1, kernel, stride)
    for bins, frames in [(1, 1), (2, 9), (16, 10), (15, 23)]:
        y, length = layer(torch.zeros(1, 1, bins, frames), torch.tensor([frames]))
        assert y.shape[2:] == (layer.output_size(bins, axis=0), layer.output_size(frames, axis=1))
        assert length.tolist() == [y.shape[3]]


def test_independent_of_padding():
    torch.manual_seed(0)
    layer = MaskedConv(2, 3, (5, 7), (2, 2)).eval()
    x, lengths = torch.zeros(3, 2, 8, 21), [21, 10, 1]
    for item, length in zip(x, lengths, strict=True):
        item[..., :length] = torch.randn(2, 8, length) * 3
    y, new = layer(x, torch.tensor(lengths))
    assert new.tolist() == [11, 5, 1]
    for i, (length, left) in enumerate(zip(lengths, new, strict=True)):
        alone, _ = layer(x[i : i + 1, ..., :length], torch.tensor([length]))
        torch.testing.assert_close(y[i, ..., :left], alone[0])
        assert not y[i, ..., left:].any()


def test_values_are_clipped_at_0_and_20():
    layer = MaskedConv(1, 1, (1, 1), (1, 1)).eval()
    layer.conv.weight.data.fill_(1)
    layer.conv.bias.data.fill_(0)
    y, _ = layer(torch.tensor([-5.0, 3.0, 100.0]).reshape(1, 1, 1, 3), torch.tensor([3]))
    torch.testing.assert_close(y.flatten(), torch.tensor([0.0, 3.0, 20.0]), rtol=1e-4, atol=0)


def test_even_kernel_size_raises():
    with pytest.raises(ValueError, match=r"\(4, 3\).*odd"):
        MaskedConv(1, 1, (4, 3), (1, 1))
