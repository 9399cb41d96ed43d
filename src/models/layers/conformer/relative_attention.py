"""Self-attention with relative positions (Transformer-XL, arXiv 1901.02860, section 3.3)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.utils.lengths import valid

FORBIDDEN = -1e4  # added to scores; a weight of zero after the softmax, and fit for half precision
STYLES = ("regular", "chunked_limited")


def position_table(size: int, width: int, like: Tensor) -> Tensor:
    """Sines and cosines of the offsets size - 1, ..., 0, ..., -(size - 1): [2 size - 1, width].

    Column 2i is sin(offset w), column 2i + 1 cos(offset w), with w = 10000^(-2i / width).
    """
    offsets = torch.arange(size - 1, -size, -1, device=like.device, dtype=torch.float32)
    columns = torch.arange(0, width, 2, device=like.device, dtype=torch.float32)
    angles = offsets[:, None] * torch.exp(columns * (-math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).to(like.dtype)


def forbidden_pairs(length: Tensor, size: int, context: tuple[int, int], style: str) -> Tensor:
    """Which frame may not look at which: True at (i, j) if i must not see j.

    Frames beyond an utterance's end are seen by nobody; what they themselves see is of no matter.

    Args:
        length: [B], valid frames.
        size: frames with padding.
        context: frames of the past and of the future that are seen, -1 for all of them.
        style: `regular` counts from each frame. `chunked_limited` cuts time into chunks of
            future + 1 frames: each sees its own chunk and past / chunk earlier ones.

    Returns:
        [B, 1, 1, size] if all of the utterance is seen, else [B, 1, size, size].
    """
    padding = ~valid(length, size)[:, None, None, :]
    left, right = context
    if left < 0 and right < 0:
        return padding
    frames = torch.arange(size, device=length.device)
    if style == "regular":
        past = frames[:, None] - frames[None, :]
        far = (past > left) if left >= 0 else torch.zeros_like(past, dtype=torch.bool)
        if right >= 0:
            far = far | (past < -right)
    else:
        chunk = right + 1
        past = frames[:, None] // chunk - frames[None, :] // chunk
        far = past < 0
        if left >= 0:
            far = far | (past > left // chunk)
    return padding | far


def check_context(context: tuple[int, int], style: str) -> None:
    """See that a context makes sense.

    Raises:
        ValueError: it doesn't; says why.
    """
    if style not in STYLES:
        raise ValueError(f"ConformerEncoder: style '{style}' is none of {', '.join(STYLES)}.")
    left, right = context
    if left < -1 or right < -1:
        raise ValueError(f"ConformerEncoder: context {list(context)}, frames, or -1 for all.")
    if style == "chunked_limited" and (right < 0 or (left > 0 and left % (right + 1))):
        raise ValueError(
            f"ConformerEncoder: context {list(context)}; a chunk of {right + 1} frames must "
            "divide the past."
        )


class RelativeAttention(nn.Module):
    """Heads that weigh by content and by distance.

    score(i, j) = ((q_i + u) k_j + (q_i + w) r_{i-j}) / sqrt(K), where r is a linear map of the
    position table and u, w are learnt for each head.

    Args:
        width: of the vectors.
        heads: their number divides the width.
        bias: whether the linear maps have one; that of the positions never has.
        dropout: on the weights.
    """

    def __init__(self, width: int, heads: int, bias: bool = True, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width, bias)
        self.key = nn.Linear(width, width, bias)
        self.value = nn.Linear(width, width, bias)
        self.output = nn.Linear(width, width, bias)
        self.position = nn.Linear(width, width, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, width // heads))  # u
        self.position_bias = nn.Parameter(torch.zeros(heads, width // heads))  # w

    def forward(self, x: Tensor, positions: Tensor, forbidden: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D].

        Args:
            x: [B, T, D].
            positions: [2T - 1, D], from `position_table`.
            forbidden: from `forbidden_pairs`.
        """
        query = self.split(self.query(x))
        key, value = self.split(self.key(x)), self.split(self.value(x))
        scores = self.position_scores(query, positions).masked_fill(forbidden, FORBIDDEN)
        heard = F.scaled_dot_product_attention(
            query + self.content_bias[:, None].to(query.dtype),
            key,
            value,
            attn_mask=scores,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(heard.transpose(1, 2).flatten(2))

    def position_scores(self, query: Tensor, positions: Tensor) -> Tensor:
        """(q_i + w) r_{i-j} / sqrt(K) for all i and j: [B, H, T, T]."""
        batch, heads, size, width = query.shape
        distances = self.position(positions).unflatten(1, (heads, width)).permute(1, 2, 0)
        place = (query + self.position_bias[:, None].to(query.dtype)) * width**-0.5
        # All utterances in one product a head, so that the distances need no copy for each.
        scores = place.transpose(0, 1).reshape(heads, batch * size, width) @ distances
        return skew(scores.unflatten(1, (batch, size)).transpose(0, 1))

    def split(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, H, T, K]."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def skew(scores: Tensor) -> Tensor:
    """Scores by distance to scores by pair.

    Args:
        scores: [B, H, T, 2T - 1]; column c of row i is for the distance T - 1 - c.

    Returns:
        [B, H, T, T]; column j of row i is for the distance i - j, which was column T - 1 - i + j.
        A zero before every row moves each row by one more when they are read with another width.
    """
    *batch, size, columns = scores.shape
    moved = F.pad(scores, (1, 0)).reshape(*batch, columns + 1, size)[..., 1:, :]
    return moved.reshape(*batch, size, columns)[..., :size]
