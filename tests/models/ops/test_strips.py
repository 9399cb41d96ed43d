import pytest
import torch

from src.models.layers.mossformer import gated_attention
from src.models.layers.mossformer.conv_module import ConvModule, ScaleNorm
from src.models.layers.mossformer.gated_attention import GatedAttention, turns
from src.models.ops import strips


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(strips, "STRIP", 16)
    monkeypatch.setattr(gated_attention, "GROUP", 32)
    torch.manual_seed(0)


def padded(frames):
    return (
        torch.arange(frames)[None, :, None]
        >= torch.tensor([frames, frames // 2 + 3])[:, None, None]
    )


@pytest.mark.parametrize("frames", [5, 16, 17, 64, 90])
@pytest.mark.parametrize("with_padding", [False, True])
def test_strips_equal_the_whole(small, frames, with_padding):
    module, x = ConvModule(8, 12, ScaleNorm(8), 0.1).eval(), torch.randn(2, frames, 8)
    padding = padded(frames) if with_padding else None
    whole = module(x, padding).detach()
    with torch.no_grad():
        torch.testing.assert_close(module(x, padding), whole)


@pytest.mark.parametrize("frames", [5, 32, 33, 90])
@pytest.mark.parametrize("with_padding", [False, True])
def test_groups_one_by_one_equal_all_at_once(small, frames, with_padding, monkeypatch):
    module, x = GatedAttention(8, 0.1).eval(), torch.randn(2, frames, 8, requires_grad=True)
    padding = padded(frames) if with_padding else None
    turn = turns(torch.rand(16), frames)

    def outputs():
        y = module(x, turn, padding)
        return y, *torch.autograd.grad(y.square().sum(), [x, *module.parameters()])

    one_by_one = outputs()
    monkeypatch.setattr(gated_attention, "eager_on_cpu", lambda x: False)
    for a, b in zip(one_by_one, outputs(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_silence_stays_silent_in_half_precision():
    frames = torch.zeros(1, 2, 8, dtype=torch.float16)
    assert torch.equal(ScaleNorm(8)(frames), frames)
