import pytest
import torch

from src.models.layers.mossformer.gated_attention import GROUP_SIZE, GatedAttention, token_shift
from src.models.layers.mossformer.rotary import ROTARY_DIM, apply_rotary, rotary_embedding


def test_token_shift():
    x = torch.arange(12.0).view(1, 3, 4)
    expected = [[0, 0, 2, 3], [0, 1, 6, 7], [4, 5, 10, 11]]
    assert token_shift(x)[0].tolist() == expected


def test_rotary_products_depend_on_distance():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 40, dtype=torch.float64).expand(-1, -1, 9, -1)
    rotary = rotary_embedding(torch.rand(ROTARY_DIM // 2), 9)
    products = apply_rotary(q, rotary)[0] @ apply_rotary(k, rotary)[0].T
    for distance in range(-8, 9):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 256, 300])
def test_block_equals_attention_over_all_pairs(frames):
    """Linear attention is a weight for every pair of frames, quadratic one for pairs of a group."""
    torch.manual_seed(0)
    block, x = GatedAttention(8, 0.1).eval().double(), torch.randn(1, frames, 8).double()
    block.gamma.data.normal_()
    rotary = rotary_embedding(torch.rand(ROTARY_DIM // 2), frames)
    hidden, qk = block.project(token_shift(x), None)
    quad_q, lin_q, quad_k, lin_k = (t[0] for t in block.project_qk(qk, rotary))
    groups = torch.arange(frames) // GROUP_SIZE
    weights = (quad_q @ quad_k.T / GROUP_SIZE).relu().square()
    weights = weights * (groups[:, None] == groups) + lin_q @ lin_k.T / frames
    (att_v, att_u), (v, u) = (weights @ hidden[0]).chunk(2, -1), hidden[0].chunk(2, -1)
    gated = att_u * v * torch.sigmoid(att_v * u)
    torch.testing.assert_close(block(x, rotary, None), x + block.to_out(gated[None], None))
