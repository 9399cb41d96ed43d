"""Gated attention of MossFormer: quadratic within groups of frames, linear across all of them.

`plain_group_attention` computes all groups at once as a batch, which suits GPUs and the compiler.
`group_attention` computes them one after the other on CPUs outside of torch.compile, so that what
lies between two operations stays in the cache and its memory is used again for the next group.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.ops.attention_gate import attention_gate
from src.models.ops.dispatch import use_cpu_path
from src.models.ops.dropout import dropout


def attention_weights(quad_q: Tensor, quad_k: Tensor, group_size: int) -> Tensor:
    """Weights of quadratic attention within groups, the squared ReLU: [N, G, K] to [N, G, G].

    FLASH (arXiv 2202.10447), section 3.2. Rows are queries.

    Args:
        quad_q, quad_k: queries and keys of N groups, [N, G, K].
        group_size: by which products are divided, whatever the size of the group.
    """
    return F.relu(torch.bmm(quad_q / group_size, quad_k.transpose(1, 2))).square()


def to_groups(x: Tensor, group_size: int) -> Tensor:
    """Split frames into groups: [B, T, D] to [B * groups, group_size, D], with zeros at the end.

    Axes are split and joined one at a time, since inductor (torch 2.11) doesn't vectorise what
    reads the result of a `reshape` of all of them.
    """
    groups = (x.shape[1] + group_size - 1) // group_size
    x = F.pad(x, (0, 0, 0, groups * group_size - x.shape[1]))
    return x.unflatten(1, (groups, group_size)).flatten(0, 1)


def attend_within_groups(
    hidden: Tensor,
    quad_q: Tensor,
    quad_k: Tensor,
    linear: Tensor,
    group_size: int,
    probability: float,
    training: bool,
) -> Tensor:
    """Add quadratic to linear attention, and gate their sum.

    Args:
        hidden: values v and u of N groups, [N, G, E].
        quad_q, quad_k: queries and keys, [N, G, K].
        linear: what linear attention returned, [N, G, E].
        group_size: of a full group.
        probability: of dropout on the weights.
        training: whether dropout is applied.

    Returns:
        [N, G, E / 2].
    """
    weights = attention_weights(quad_q, quad_k, group_size)
    weights = dropout(weights, probability, training)
    return attention_gate(torch.baddbmm(linear, weights, hidden), hidden)


def plain_group_attention(
    hidden: Tensor,
    quad_q: Tensor,
    lin_q: Tensor,
    quad_k: Tensor,
    lin_kv: Tensor,
    group_size: int,
    probability: float,
    training: bool,
) -> Tensor:
    """Attend within groups and to all frames, all groups at once."""
    v_u, q, k, linear = (to_groups(t, group_size) for t in (hidden, quad_q, quad_k, lin_q @ lin_kv))
    y = attend_within_groups(v_u, q, k, linear, group_size, probability, training)
    y = y.unflatten(0, (hidden.shape[0], -1)).flatten(1, 2)
    return y.narrow(1, 0, hidden.shape[1])


def group_attention(
    hidden: Tensor,
    quad_q: Tensor,
    lin_q: Tensor,
    quad_k: Tensor,
    lin_kv: Tensor,
    group_size: int,
    probability: float,
    training: bool,
) -> Tensor:
    """Attend within groups and to all frames.

    Args:
        hidden: values v and u, [B, T, E]; zero in the padding.
        quad_q, quad_k: queries and keys of quadratic attention, [B, T, K].
        lin_q: queries of linear attention, [B, T, K].
        lin_kv: keys times values of linear attention, [B, K, E].
        group_size: frames in a group.
        probability: of dropout on the weights within groups.
        training: whether dropout is applied.

    Returns:
        [B, T, E / 2].
    """
    if not use_cpu_path(hidden):
        return plain_group_attention(
            hidden, quad_q, lin_q, quad_k, lin_kv, group_size, probability, training
        )
    tensors = (hidden, quad_q, quad_k, lin_q)
    groups = zip(*(t.split(group_size, dim=1) for t in tensors), strict=True)
    outputs = [
        attend_within_groups(h, q, k, lin @ lin_kv, group_size, probability, training)
        for h, q, k, lin in groups
    ]
    return torch.cat(outputs, 1)
