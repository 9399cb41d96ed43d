import pytest
import torch
import torch.nn.functional as F

from src.models.layers.mossformer.conv_module import (
    ConvModule,
    LayerNorm,
    ScaleNorm,
    apply_parallel,
)
from tests.models.ops.compare import assert_equal, padding_mask


def modules(norm, *sizes):
    torch.manual_seed(0)
    made = [ConvModule(8, size, norm(8), 0.1).eval() for size in sizes]
    for module in made:
        for parameter in module.norm.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize("norm", [ScaleNorm, LayerNorm])
@pytest.mark.parametrize("frames", [1, 16, 40])
@pytest.mark.parametrize("with_padding", [False, True])
def test_module_equals_its_parts(norm, frames, with_padding):
    (module,) = modules(norm, 6)
    mask = padding_mask(frames) if with_padding else None
    x = torch.randn(2, frames, 8, requires_grad=True)

    def parts(x, *_):
        x = F.silu(module.linear(module.norm(x)))
        x = x if mask is None else x.masked_fill(mask, 0.0)
        y = F.conv1d(x.transpose(1, 2), module.kernel, padding=8, groups=6)
        return x + y.transpose(1, 2)

    inputs = [x, *module.parameters()]
    assert_equal(lambda x, *_: module(x, mask), parts, inputs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [ScaleNorm, LayerNorm])
@pytest.mark.parametrize("with_padding", [False, True])
def test_parallel_equals_sequential(norm, with_padding):
    several = modules(norm, 6, 4)
    mask = padding_mask(20) if with_padding else None
    x = torch.randn(2, 20, 8, requires_grad=True)
    inputs = [x, *(p for module in several for p in module.parameters())]
    assert_equal(
        lambda x, *_: torch.cat(apply_parallel(several, x, mask), -1),
        lambda x, *_: torch.cat([module(x, mask) for module in several], -1),
        inputs,
    )


def test_scale_norm_gives_constant_norm():
    norm = ScaleNorm(16)
    norm.scale.data.fill_(3.0)
    lengths = norm(torch.randn(2, 5, 16)).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full((2, 5), 3.0 * 16**0.5))


def test_scale_norm_of_zeros_is_zero_in_half_precision():
    frames = torch.zeros(1, 2, 8, dtype=torch.float16)
    assert torch.equal(ScaleNorm(8).normalize(frames), frames)
