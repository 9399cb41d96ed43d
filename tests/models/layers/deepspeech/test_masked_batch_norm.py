import pytest
import torch
from torch import nn

from src.models.layers.deepspeech.masked_batch_norm import MaskedBatchNorm
from src.utils.lengths import padding_mask

LENGTH = torch.tensor([10, 6, 2])


def padded(size: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [3, 4, size] of mean 5 and deviation 3, zero beyond LENGTH, and the padding mask."""
    torch.manual_seed(0)
    mask = padding_mask(LENGTH, size).unsqueeze(1)
    x = torch.zeros(3, 4, size)
    x[..., :10] = torch.randn(3, 4, 10) * 3 + 5
    return x.masked_fill(mask, 0.0), mask


def frames(x: torch.Tensor) -> torch.Tensor:
    """All valid frames of all items, [18, 4]."""
    return torch.cat([x[i, :, :n].T for i, n in enumerate(LENGTH)])


def test_equals_torch_on_valid_frames():
    (x, mask), ours, torchs = padded(), MaskedBatchNorm(4), nn.BatchNorm1d(4)
    for _ in range(3):
        output, wanted = ours(x, mask), torchs(frames(x))
    torch.testing.assert_close(frames(output), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    torch.testing.assert_close(ours.running_var, torchs.running_var, rtol=1e-4, atol=1e-5)
    assert not output.masked_fill(~mask, 0.0).any()
    ours.eval(), torchs.eval()
    torch.testing.assert_close(frames(ours(x, mask)), torchs(frames(x)), rtol=1e-4, atol=1e-5)


def test_gradients_equal_those_of_torch():
    (x, mask), ours, torchs = padded(), MaskedBatchNorm(4), nn.BatchNorm1d(4)
    x.requires_grad_()
    (output,) = torch.autograd.grad(frames(ours(x, mask)).pow(3).sum(), x)
    (wanted,) = torch.autograd.grad(torchs(frames(x)).pow(3).sum(), x)
    torch.testing.assert_close(
        output.masked_fill(mask, 0.0), wanted.masked_fill(mask, 0.0), rtol=1e-3, atol=1e-4
    )


def test_independent_of_padding():
    short, long = MaskedBatchNorm(4), MaskedBatchNorm(4)
    a, b = short(*padded(10)), long(*padded(50))
    torch.testing.assert_close(a, b[..., :10])
    torch.testing.assert_close(short.running_mean, long.running_mean)
    torch.testing.assert_close(short.running_var, long.running_var)


def test_two_axes_share_their_statistics():
    torch.manual_seed(0)
    mask = padding_mask(LENGTH, 10)[:, None, None]
    x = torch.randn(3, 4, 5, 10).masked_fill(mask, 0.0)
    ours, torchs = MaskedBatchNorm(4), nn.BatchNorm2d(4)
    ours(x, mask)
    torchs(torch.cat([x[i, ..., :n] for i, n in enumerate(LENGTH)], dim=-1).unsqueeze(0))
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    torch.testing.assert_close(ours.running_var, torchs.running_var)


def test_evaluation_leaves_the_running_statistics():
    norm = MaskedBatchNorm(4).eval()
    norm(*padded())
    assert norm.running_mean.tolist() == [0] * 4 and norm.running_var.tolist() == [1] * 4


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_statistics(precision):
    torch.manual_seed(0)
    length = torch.full((80,), 1001)
    x = torch.randn(80, 2, 1, 1001).to(precision)
    mask = padding_mask(length, 1001)[:, None, None]
    half, whole = MaskedBatchNorm(2, momentum=1.0), MaskedBatchNorm(2, momentum=1.0)
    half(x, mask), whole(x.float(), mask)
    torch.testing.assert_close(half.running_mean, whole.running_mean)
    torch.testing.assert_close(half.running_var, whole.running_var)
