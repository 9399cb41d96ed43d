import pytest
import torch

from src.models.ops.group_attention import (
    attention_weights,
    group_attention,
    plain_group_attention,
    to_groups,
)
from tests.models.ops.compare import assert_equal


@pytest.mark.parametrize("frames", [1, 5, 32, 33, 90])
@pytest.mark.parametrize("batch", [1, 2])
def test_fast_equals_plain(frames, batch):
    torch.manual_seed(0)
    hidden = torch.randn(batch, frames, 12, requires_grad=True)
    quad_q, lin_q, quad_k = torch.randn(3, batch, frames, 4, requires_grad=True).unbind()
    lin_kv = torch.randn(batch, 4, 12, requires_grad=True)
    inputs = [hidden, quad_q, lin_q, quad_k, lin_kv, 32, 0.1, False]
    assert_equal(group_attention, plain_group_attention, inputs, rtol=1e-4, atol=1e-4)


def test_plain_equals_the_paper_frame_by_frame():
    torch.manual_seed(0)
    frames, size = 7, 4
    hidden = torch.randn(1, frames, 6, dtype=torch.float64)
    quad_q, lin_q, quad_k = torch.randn(3, 1, frames, 5, dtype=torch.float64).unbind()
    lin_kv = torch.randn(1, 5, 6, dtype=torch.float64)
    y = plain_group_attention(hidden, quad_q, lin_q, quad_k, lin_kv, size, 0.0, False)
    for t in range(frames):
        attended = lin_q[0, t] @ lin_kv[0]
        for s in range(t // size * size, min(t // size * size + size, frames)):
            weight = (quad_q[0, t] @ quad_k[0, s] / size).clamp(min=0) ** 2
            attended = attended + weight * hidden[0, s]
        (att_v, att_u), (v, u) = attended.chunk(2), hidden[0, t].chunk(2)
        torch.testing.assert_close(y[0, t], att_u * v * torch.sigmoid(att_v * u))


def test_dropout_preserves_mean_of_weights():
    torch.manual_seed(0)
    ones, hidden = torch.ones(1, 64, 8), torch.ones(1, 64, 2)
    hidden[..., 0] = 1e-3  # v, so small that the gate hardly moves
    inputs = [hidden, ones, ones, ones, torch.zeros(1, 8, 2), 64]
    plain, dropped = (group_attention(*inputs, 0.5, training) for training in (False, True))
    assert not torch.equal(dropped, plain)
    assert dropped.mean().item() == pytest.approx(plain.mean().item(), rel=0.05)


def test_groups_end_with_zeros():
    x = torch.randn(2, 5, 3)
    groups = to_groups(x, 4)
    assert groups.shape == (4, 4, 3)
    assert torch.equal(groups[1, 0], x[0, 4]) and not groups[1, 1:].any()
    assert attention_weights(groups, groups, 4).shape == (4, 4, 4)
