"""The module of which the blocks of MossFormer2 are made (arXiv 2312.11825, figure 2)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.layers.mossformer.masked_norm import hide
from src.models.ops.depthwise_conv import depthwise, depthwise_gradients
from src.models.ops.dropout import STEPS, draw_kept, drop, dropout, scale_of
from src.models.ops.eager import eager_on_cpu
from src.models.ops.strips import in_strips

KERNEL = 17  # frames


class ScaleNorm(nn.Module):
    """Vectors brought to one length, which is learnt (arXiv 1910.05895).

    What is learnt is not applied here but becomes part of the linear map that follows, see `into`:
    several maps then share the same vectors.
    """

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.factor = width**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D], of length sqrt(D)."""
        wide = torch.promote_types(x.dtype, torch.float32)  # in half precision 1 / 1e-5 is infinite
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        return (x * (length * self.factor).clamp(min=1e-5).reciprocal()).to(x.dtype)

    def into(self, linear: nn.Linear) -> tuple[Tensor, Tensor]:
        """Weight and bias of the map with what is learnt here in front."""
        return self.scale * linear.weight, linear.bias


class CentredNorm(nn.LayerNorm):
    """Vectors of mean 0 and variance 1, then factors and a bias, applied as in `ScaleNorm`."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D], without factors and bias."""
        return F.layer_norm(x, self.normalized_shape, eps=self.eps)

    def into(self, linear: nn.Linear) -> tuple[Tensor, Tensor]:
        """Weight and bias of the map with what is learnt here in front."""
        return linear.weight * self.weight, linear.bias + linear.weight @ self.bias


class ConvModule(nn.Module):
    """Norm, linear map, SiLU, and a convolution of each channel around a residual.

    Args:
        width, output: channels in and out.
        norm: of the vectors that come in.
        dropout: share of the outputs that training leaves out.
    """

    def __init__(self, width: int, output: int, norm: ScaleNorm | CentredNorm, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.norm, self.linear = norm, nn.Linear(width, output)
        self.weight = nn.Conv1d(output, output, KERNEL, groups=output, bias=False).weight

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """[B, T, width] to [B, T, output]."""
        return together([self], x, padding)


def together(modules: Sequence[ConvModule], x: Tensor, padding: Tensor | None) -> Tensor:
    """What several modules make of the same vectors, in one go.

    Args:
        modules: with the same kind of norm and the same dropout.
        x: [B, T, width].
        padding: [B, T, 1] or None.

    Returns:
        [B, T, outputs], one module's after the other's.
    """
    weights, biases = zip(*(module.norm.into(module.linear) for module in modules), strict=True)
    weight, bias = torch.cat(weights), torch.cat(biases)
    # The residual is one more weight in the middle of the kernel.
    kernels = torch.cat([module.weight for module in modules])
    kernels = kernels + F.pad(kernels.new_ones(1), (KERNEL // 2, KERNEL // 2))
    first = modules[0]
    dropped = round(first.dropout * STEPS) if first.training else 0
    mixed = torch.is_autocast_enabled("cpu") or x.dtype != weight.dtype
    if x.requires_grad and padding is None and eager_on_cpu(x) and not mixed and dropped < STEPS:
        return LeanModule.apply(x, weight, bias, kernels, first.norm, dropped)

    def function(x: Tensor, padding: Tensor | None) -> Tensor:
        x = F.linear(first.norm(x), weight, bias)
        x = F.silu(x, inplace=not x.requires_grad)
        return depthwise(hide(x, padding), kernels)

    found = in_strips(function, x, padding, KERNEL // 2)
    return dropout(found, first.dropout, first.training)


class LeanModule(torch.autograd.Function):
    """What `together` says, of which the inputs, what goes into SiLU and a byte an output are kept.

    The rest, which is as large again, is quick to compute once more on the way back.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        kernels: Tensor,
        norm: nn.Module,
        dropped: int,
    ) -> Tensor:
        """[B, T, width] to [B, T, outputs], of which `dropped` of STEPS are left out."""
        kernels = kernels * scale_of(dropped)
        inner = F.linear(norm(x), weight, bias)
        found = depthwise(F.silu(inner), kernels)
        keep = draw_kept(found, dropped)
        ctx.save_for_backward(x, weight, kernels, inner, keep)
        ctx.norm, ctx.scale = norm, scale_of(dropped)
        return drop(found, keep)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, the map's weight and bias, and the kernels."""
        x, weight, kernels, inner, keep = ctx.saved_tensors
        grad = grads[0] if keep is None else grads[0] * keep
        grad, grad_kernels = depthwise_gradients(grad, F.silu(inner), kernels)
        torch.ops.aten.silu_backward.grad_input(grad, inner, grad_input=grad)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            normed = ctx.norm(x)
        rows = grad.flatten(0, 1)
        grad_weight = rows.T @ normed.detach().flatten(0, 1)
        (grad_x,) = torch.autograd.grad(normed, x, grad @ weight)
        return grad_x, grad_weight, rows.sum(0), grad_kernels.mul_(ctx.scale), None, None
