"""The gate after the attention of MossFormer (arXiv 2302.11824): `att_u * v * sigmoid(att_v * u)`.

`plain_attention_gate` leaves the backward pass to autograd, which saves every product between.
`attention_gate` saves only its two inputs, and is used everywhere; without gradients both are the
same.
"""

from typing import Any

import torch
from torch import Tensor


def plain_attention_gate(attended: Tensor, hidden: Tensor) -> Tensor:
    """Gate what attention returned by what it was given, step by step."""
    (att_v, att_u), (v, u) = attended.chunk(2, dim=-1), hidden.chunk(2, dim=-1)
    return att_u * v * torch.sigmoid(att_v * u)


def attention_gate(attended: Tensor, hidden: Tensor) -> Tensor:
    """Gate what attention returned by what it was given.

    Args:
        attended: [B, T, E], attention over v in the first half of the channels, over u in the
            second.
        hidden: [B, T, E], v in the first half of the channels, u in the second.

    Returns:
        [B, T, E / 2].
    """
    if not torch.is_grad_enabled():
        return plain_attention_gate(attended, hidden)
    return AttentionGate.apply(attended, hidden)


class AttentionGate(torch.autograd.Function):
    """The gate with only its inputs saved for backward."""

    @staticmethod
    def forward(ctx: Any, attended: Tensor, hidden: Tensor) -> Tensor:
        """[B, T, E] twice to [B, T, E / 2]."""
        ctx.save_for_backward(attended, hidden)
        (att_v, att_u), (v, u) = attended.chunk(2, dim=-1), hidden.chunk(2, dim=-1)
        # Not in place: torch.compile would lose the gradient of what is returned.
        return torch.sigmoid(att_v * u) * att_u * v

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of attended and hidden."""
        attended, hidden = ctx.saved_tensors
        (att_v, att_u), (v, u) = attended.chunk(2, dim=-1), hidden.chunk(2, dim=-1)
        gate = torch.sigmoid(att_v * u)
        grad_product = grads[0] * gate  # of att_u * v
        grad_logit = grad_product * (1 - gate) * att_u * v  # of att_v * u
        grad_attended = torch.cat([grad_logit * u, grad_product * v], -1)
        return grad_attended, torch.cat([grad_product * att_u, grad_logit * att_v], -1)
