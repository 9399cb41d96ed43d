import pytest
import torch

from src.models.layers.conformer import subsampling
from src.models.layers.conformer.subsampling import Subsampling


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_both_layouts_give_the_same(monkeypatch, separable, causal):
    torch.manual_seed(0)
    module = Subsampling(16, 8, 4, factor=8, causal=causal, separable=separable)
    spectrogram, length = torch.randn(2, 16, 50), torch.tensor([50, 31])
    results = []
    for channels_last in (True, False):
        monkeypatch.setattr(subsampling, "prefers_channels_last", lambda _, v=channels_last: v)
        y, frames = module(spectrogram, length)
        grads = torch.autograd.grad(y.square().sum(), list(module.parameters()))
        results.append((y, frames, *grads))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
