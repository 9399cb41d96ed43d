"""ConvM, the module of which the blocks of MossFormer2 are made (arXiv 2312.11825, figure 2)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.ops.linear_silu_conv import linear_silu_conv

KERNEL_SIZE = 17  # frames


class ScaleNorm(nn.Module):
    """Scale each vector to one learned length (Nguyen and Salazar, arXiv 1910.05895)."""

    def __init__(self, d_model: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.factor = d_model**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D], of length scale * sqrt(D)."""
        return self.scale * self.normalize(x)

    def normalize(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D], of length sqrt(D)."""
        wide = torch.promote_types(x.dtype, torch.float32)  # in half precision 1 / 1e-5 is infinite
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        return (x * (length * self.factor).clamp(min=1e-5).reciprocal()).to(x.dtype)

    def fold_into(self, linear: nn.Linear) -> tuple[Tensor, Tensor]:
        """Weight and bias that map `normalize(x)` as `linear` maps `forward(x)`."""
        return self.scale * linear.weight, linear.bias


class LayerNorm(nn.LayerNorm):
    """LayerNorm whose weight and bias can be folded into the linear map after it."""

    def normalize(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D], of mean 0 and variance 1 over D."""
        return F.layer_norm(x, self.normalized_shape, eps=self.eps)

    def fold_into(self, linear: nn.Linear) -> tuple[Tensor, Tensor]:
        """Weight and bias that map `normalize(x)` as `linear` maps `forward(x)`."""
        return linear.weight * self.weight, linear.bias + linear.weight @ self.bias


class ConvModule(nn.Module):
    """Norm, linear map, SiLU, residual depthwise convolution over time, dropout.

    Args:
        d_in, d_out: channels of input and output.
        norm: over the d_in channels of each frame.
        dropout: probability of an output to be zeroed in training.
    """

    def __init__(self, d_in: int, d_out: int, norm: ScaleNorm | LayerNorm, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.norm, self.linear = norm, nn.Linear(d_in, d_out)
        self.kernel = nn.Conv1d(d_out, d_out, KERNEL_SIZE, groups=d_out, bias=False).weight

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """[B, T, d_in] to [B, T, d_out].

        Args:
            x: [B, T, d_in].
            padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.
        """
        return apply_concatenated([self], x, padding_mask)


def apply_parallel(
    modules: Sequence[ConvModule], x: Tensor, padding_mask: Tensor | None
) -> tuple[Tensor, ...]:
    """Apply several modules to the same frames, as fast as a single one with all their outputs.

    Equal to `[module(x, padding_mask) for module in modules]`, except for the random numbers of
    dropout. The frames are normalised once, and one large matrix product and convolution take less
    time than several small ones.

    Args:
        modules: with the same kind of norm and the same dropout.
        x: [B, T, d_in].
        padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.

    Returns:
        The output of each module, [B, T, d_out].
    """
    y = apply_concatenated(modules, x, padding_mask)
    return y.split([module.linear.out_features for module in modules], dim=-1)


def apply_concatenated(
    modules: Sequence[ConvModule], x: Tensor, padding_mask: Tensor | None
) -> Tensor:
    """Outputs of several modules side by side, from their concatenated parameters.

    Args:
        modules: with the same kind of norm and the same dropout.
        x: [B, T, d_in].
        padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.

    Returns:
        [B, T, sum of d_out].
    """
    first = modules[0]
    weights, biases = zip(*(m.norm.fold_into(m.linear) for m in modules), strict=True)
    return linear_silu_conv(
        x,
        first.norm.normalize,
        torch.cat(weights),
        torch.cat(biases),
        torch.cat([module.kernel for module in modules]),
        padding_mask,
        first.dropout,
        first.training,
    )
