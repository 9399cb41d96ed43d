import pytest
import torch

from src.interop.clearervoice_decode import DecodingOptions, decode, normalize_level
from tests.golden import golden

SIZES = [900, 2000, 2600, 3700, 5000, 7777]
OPTIONS = {
    "package": DecodingOptions(2.0, 2.0, match_input_level=True),
    "trainer": DecodingOptions(1.0, 3.0, match_input_level=False),
}


def stand_in(x):
    ramp = torch.linspace(0, 1, len(x), dtype=x.dtype)
    return torch.stack([0.8 * x + 0.05 * ramp, x * x.abs() - 0.02 * ramp])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", OPTIONS)
def test_equals_reference_outputs(name, size):
    tensors, _ = golden("mossformer2_decode")
    streams = decode(stand_in, tensors[f"in.{size}"][0].double(), 1000, OPTIONS[name])
    torch.testing.assert_close(streams, tensors[f"out.{name}.{size}"], rtol=0, atol=1e-6)


def test_equals_reference_level():
    tensors, _ = golden("mossformer2_decode")
    audio, undo = normalize_level(tensors["in.norm"])
    torch.testing.assert_close(audio, tensors["out.norm"], rtol=0, atol=1e-6)
    assert undo == pytest.approx(tensors["out.norm_scale_back"].item(), rel=1e-6)
