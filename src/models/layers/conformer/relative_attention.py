"""Self-attention with relative positional encoding (Transformer-XL, arXiv 1901.02860)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.utils.lengths import padding_mask
from src.utils.options import check_choice

MASKED = -1e4  # finite in float16, and its softmax is zero
ATT_CONTEXT_STYLES = ("regular", "chunked_limited")


def relative_positions(size: int, d_model: int, like: Tensor, past: int = 0) -> Tensor:
    """Sinusoidal encoding of the relative positions past + size - 1, ..., 0, ..., -(size - 1).

    Column 2i is sin(p w_i) and column 2i + 1 is cos(p w_i), where w_i = 10000^(-2i / d_model).

    Args:
        size: T, frames of the sequence.
        d_model: D, even.
        like: tensor whose device and dtype are used.
        past: P, frames before the sequence that are attended to as well.

    Returns:
        [P + 2T - 1, D].
    """
    offsets = torch.arange(past + size - 1, -size, -1, device=like.device, dtype=torch.float32)
    columns = torch.arange(0, d_model, 2, device=like.device, dtype=torch.float32)
    angles = offsets[:, None] * torch.exp(columns * (-math.log(10000.0) / d_model))
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).to(like.dtype)


def make_attention_mask(
    length: Tensor, size: int, att_context_size: tuple[int, int], att_context_style: str
) -> Tensor:
    """Mask of the pairs of frames without attention: True at (i, j) if i may not attend to j.

    No frame attends to padding. The rows of padded frames are not masked, so that their softmax
    is defined; their outputs are not used.

    Args:
        length: [B], frames of each utterance without padding.
        size: T, frames with padding.
        att_context_size: left and right context in frames, -1 for unlimited.
        att_context_style: `regular`, where the context is relative to each frame, or
            `chunked_limited`, where time is split into chunks of right + 1 frames, and a frame
            attends to its own chunk and to the left / (right + 1) chunks before it.

    Returns:
        [B, 1, 1, T] for unlimited context, else [B, 1, T, T].
    """
    padded = padding_mask(length, size)[:, None, None, :]
    left, right = att_context_size
    if left < 0 and right < 0:
        return padded
    frames = torch.arange(size, device=length.device)
    if att_context_style == "chunked_limited":
        left, right, frames = left // (right + 1), 0, frames // (right + 1)
    distance = frames[:, None] - frames[None, :]
    outside = torch.zeros_like(distance, dtype=torch.bool)
    if left >= 0:
        outside |= distance > left
    if right >= 0:
        outside |= distance < -right
    return padded | outside


def check_att_context(att_context_size: tuple[int, int], att_context_style: str) -> None:
    """Check a left and right context of attention.

    Raises:
        ValueError: the style is unknown, a size is below -1, or chunks of right + 1 frames do not
            divide the left context.
    """
    check_choice("ConformerEncoder.att_context_style", att_context_style, ATT_CONTEXT_STYLES)
    left, right = att_context_size
    given = f"ConformerEncoder.att_context_size: {[left, right]}"
    if left < -1 or right < -1:
        raise ValueError(f"{given}; numbers of frames from 0, or -1 for unlimited.")
    if att_context_style == "chunked_limited" and right < 0:
        raise ValueError(f"{given}; chunked_limited needs a right context from 0.")
    if att_context_style == "chunked_limited" and left > 0 and left % (right + 1):
        raise ValueError(
            f"{given}; the left context must be a multiple of {right + 1}, the chunk size."
        )


class RelPositionMultiHeadAttention(nn.Module):
    """Multi-head self-attention with relative positional encoding.

    The score of frames i and j is ((q_i + u) k_j + (q_i + v) r_{i-j}) / sqrt(d_k), where r is a
    linear map of the positional encoding and u, v are learnt for each head (Transformer-XL,
    arXiv 1901.02860, section 3.3; Conformer, arXiv 2005.08100, section 2.1).

    Args:
        d_model: size of the vectors.
        num_heads: number of heads; divides d_model.
        use_bias: whether the linear maps have a bias; that of the positions never has.
        dropout: dropout probability of the attention weights.
    """

    def __init__(self, d_model: int, num_heads: int, use_bias: bool = True, dropout: float = 0.0):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.linear_q = nn.Linear(d_model, d_model, use_bias)
        self.linear_k = nn.Linear(d_model, d_model, use_bias)
        self.linear_v = nn.Linear(d_model, d_model, use_bias)
        self.linear_out = nn.Linear(d_model, d_model, use_bias)
        self.linear_pos = nn.Linear(d_model, d_model, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(num_heads, d_model // num_heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(num_heads, d_model // num_heads))

    def forward(
        self, x: Tensor, attended: Tensor, pos_emb: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """Attend.

        Args:
            x: [B, T, D].
            attended: frames that x attends to: P earlier ones and x itself, [B, P + T, D].
            pos_emb: [P + 2T - 1, D], from `relative_positions`.
            attention_mask: True where frame i may not attend to frame j, [B, 1, 1 or T, P + T].

        Returns:
            [B, T, D].
        """
        q = self.split_heads(self.linear_q(x))
        k, v = (self.split_heads(linear(attended)) for linear in (self.linear_k, self.linear_v))
        scores = self.position_scores(q, pos_emb).masked_fill(attention_mask, MASKED)
        values = F.scaled_dot_product_attention(
            q + self.pos_bias_u[:, None].to(q.dtype),
            k,
            v,
            attn_mask=scores,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.linear_out(values.transpose(1, 2).flatten(2))

    def position_scores(self, q: Tensor, pos_emb: Tensor) -> Tensor:
        """Position term of the scores, (q_i + v) r_{i-j} / sqrt(d_k).

        Args:
            q: [B, H, T, d_k].
            pos_emb: [P + 2T - 1, D].

        Returns:
            [B, H, T, P + T].
        """
        batch, heads, size, d_k = q.shape
        r = self.linear_pos(pos_emb).unflatten(1, (heads, d_k)).permute(1, 2, 0)
        r = F.pad(r, (1, 0))  # the column before the scores that rel_shift needs, without a copy
        q = (q + self.pos_bias_v[:, None].to(q.dtype)) * d_k**-0.5
        # One matrix product a head for the whole batch, so that r need not be copied B times.
        scores = q.transpose(0, 1).reshape(heads, batch * size, d_k) @ r
        return rel_shift(scores.unflatten(1, (batch, size)).transpose(0, 1))

    def split_heads(self, x: Tensor) -> Tensor:
        """Split [B, T, D] into heads, [B, H, T, d_k]."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def rel_shift(scores: Tensor) -> Tensor:
    """Reorder scores from relative positions to pairs (Transformer-XL, appendix B).

    Column j of row i of the result is column T - i + j of row i of the input. When the same memory
    is read with one column less, each row is shifted by one more; column 0 is not read.

    Args:
        scores: [B, H, T, P + 2T]; column c belongs to the relative position P + T - c.

    Returns:
        [B, H, T, P + T]; column j of row i belongs to the relative position P + i - j.
    """
    size, columns = scores.shape[2:]
    shifted = scores.flatten(2)[..., size:].unflatten(2, (size, columns - 1))
    return shifted[..., : columns - size]
