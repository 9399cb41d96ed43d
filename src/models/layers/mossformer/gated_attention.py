"""Gated single-head attention, the block of MossFormer (Zhao and Ma, arXiv 2302.11824).

After the gated attention unit of FLASH (Hua et al., arXiv 2202.10447).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.layers.mossformer.conv_module import ConvModule, ScaleNorm, apply_parallel
from src.models.layers.mossformer.rotary import Rotary, apply_rotary
from src.models.ops.group_attention import group_attention
from src.models.ops.masking import mask_padding

GROUP_SIZE = 256  # frames within which attention is quadratic
QK_DIM = 128  # channels of queries and keys


class GatedAttention(nn.Module):
    """Joint attention, quadratic within groups of frames and linear over all, and a gate.

    Args:
        d_model: channels of the frames, even.
        dropout: probability of attention weights and of outputs of modules to be zeroed in
            training.
    """

    def __init__(self, d_model: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.to_hidden = ConvModule(d_model, 4 * d_model, ScaleNorm(d_model), dropout)
        self.to_qk = ConvModule(d_model, QK_DIM, ScaleNorm(d_model), dropout)
        self.to_out = ConvModule(2 * d_model, d_model, ScaleNorm(2 * d_model), dropout)
        # One row each for quadratic queries, linear queries, quadratic keys, linear keys.
        self.gamma = nn.Parameter(0.02 * torch.randn(4, QK_DIM))
        self.beta = nn.Parameter(torch.zeros(4, QK_DIM))

    def forward(self, x: Tensor, rotary: Rotary, padding_mask: Tensor | None) -> Tensor:
        """[B, T, D] to [B, T, D].

        Args:
            x: [B, T, D].
            rotary: cosines and sines from `rotary_embedding`.
            padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.
        """
        # b - batch
        # t - frames
        # d - d_model
        # e - values v and u side by side, 4 d
        # k - QK_DIM
        hidden, qk = self.project(token_shift(x), padding_mask)  # [b, t, e], [b, t, k]
        quad_q, lin_q, quad_k, lin_k = self.project_qk(qk, rotary)  # [b, t, k] each
        lengths = x.shape[1] if padding_mask is None else (~padding_mask).sum(1, keepdim=True)
        lin_kv = lin_k.transpose(1, 2) @ hidden / lengths  # [b, k, e]
        gated = group_attention(
            hidden, quad_q, lin_q, quad_k, lin_kv, GROUP_SIZE, self.dropout, self.training
        )  # [b, t, e / 2]
        return x + self.to_out(gated, padding_mask)

    def project(self, x: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Values v and u [B, T, 4 D], zero in the padding, and what queries and keys share.

        Args:
            x: [B, T, D], after `token_shift`.
            padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.

        Returns:
            [B, T, 4 D] and [B, T, QK_DIM].
        """
        hidden, qk = apply_parallel([self.to_hidden, self.to_qk], x, padding_mask)
        return mask_padding(hidden, padding_mask), qk

    def project_qk(self, qk: Tensor, rotary: Rotary) -> tuple[Tensor, ...]:
        """Quadratic queries, linear queries, quadratic keys, linear keys: each [B, T, QK_DIM].

        Args:
            qk: what they share, [B, T, QK_DIM].
            rotary: cosines and sines from `rotary_embedding`.
        """
        gamma, beta = self.gamma[:, None, None], self.beta[:, None, None]
        return apply_rotary(torch.addcmul(beta, qk, gamma), rotary).unbind()


def token_shift(x: Tensor) -> Tensor:
    """Delay the first half of the channels of [B, T, D] by a frame, with zeros in the first."""
    half = x.shape[2] // 2
    return torch.cat([F.pad(x[..., :half], (0, 0, 1, -1)), x[..., half:]], -1)
