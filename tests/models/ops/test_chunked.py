import pytest
import torch

from src.models.ops import chunked
from src.models.ops.chunked import chunked_over_time
from src.models.ops.depthwise_conv import depthwise_conv1d
from src.models.ops.masking import mask_padding
from tests.models.ops.compare import padding_mask


@pytest.mark.parametrize("frames", [5, 16, 17, 64, 90])
@pytest.mark.parametrize("with_padding", [False, True])
def test_chunked_equals_plain(monkeypatch, frames, with_padding):
    monkeypatch.setattr(chunked, "CHUNK_SIZE", 16)
    torch.manual_seed(0)
    weight, x = torch.randn(8, 1, 7), torch.randn(2, frames, 8)
    mask = padding_mask(frames) if with_padding else None
    sizes = []

    def function(x, mask):
        sizes.append(x.shape[1])
        return depthwise_conv1d(mask_padding(x, mask), weight)[..., :5]

    plain = function(x, mask)
    assert torch.equal(chunked_over_time(function, x, mask, context=3), plain)
    assert sizes == [frames, frames]  # as a whole where gradients are enabled
    with torch.no_grad():
        fast = chunked_over_time(function, x, mask, context=3)
    torch.testing.assert_close(fast, plain)
    assert max(sizes[2:]) <= 16 + 2 * 3
