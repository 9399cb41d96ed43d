import pytest
import torch

from src.interop.clearervoice_decode import Decoding, decode, input_level
from tests.golden import golden

SIZES = [900, 2000, 2600, 3700, 5000, 7777]
WAYS = {"package": Decoding(2.0, 2.0, True), "trainer": Decoding(1.0, 3.0, False)}


def stand_in(x):
    ramp = torch.linspace(0, 1, len(x), dtype=x.dtype)
    return torch.stack([0.8 * x + 0.05 * ramp, x * x.abs() - 0.02 * ramp])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", WAYS)
def test_outputs_of_the_reference(way, size):
    tensors, _ = golden("mossformer2_decode")
    found = decode(stand_in, tensors[f"in.{size}"][0].double(), 1000, WAYS[way])
    torch.testing.assert_close(found, tensors[f"out.{way}.{size}"], rtol=0, atol=1e-6)


def test_level_of_the_reference():
    tensors, _ = golden("mossformer2_decode")
    found, undo = input_level(tensors["in.norm"])
    torch.testing.assert_close(found, tensors["out.norm"], rtol=0, atol=1e-6)
    assert undo == pytest.approx(tensors["out.norm_scale_back"].item(), rel=1e-6)
