"""Muon (Jordan et al., 2024) with a few products of stacked matrices instead of many small ones.

`torch.optim.Muon` is the plain way: it orthogonalises one matrix after the other. A small network
has many matrices of few shapes, whose products are too small for a machine to be used well.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Muon

from src.utils.options import check_whole


class StackedMuon(Muon):
    """Muon that orthogonalises all matrices of a shape at once.

    A matrix and a transposed one have the same shape here. Steps of the 32 matrices of a small
    MossFormer2, of up to 256 x 256 and 512 x 128, take half of the time on two cores. The state is
    that of `torch.optim.Muon`.

    Args:
        params: matrices, or groups of them.
        ns_steps: Newton-Schulz iterations, from 1 to 99.
        options: others of `torch.optim.Muon`.

    Raises:
        ValueError: an option has a bad value.
    """

    def __init__(self, params: Any, *, ns_steps: int = 5, **options: Any):
        check_whole("ns_steps", ns_steps, high=99)
        super().__init__(params, ns_steps=ns_steps, **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make a step, as `torch.optim.Muon` does; sharded matrices are left to it."""
        if any(hasattr(p, "full_tensor") for group in self.param_groups for p in group["params"]):
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.step_group(group)
        return loss

    def step_group(self, group: Mapping[str, Any]) -> None:
        """Make the step of a parameter group."""
        weights: list[Tensor] = []
        grads: list[Tensor] = []
        momenta: list[Tensor] = []
        self._init_group(group, weights, grads, momenta)  # type: ignore[arg-type]
        if not weights:
            return
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        updates: Sequence[Tensor] = momenta
        if group["nesterov"]:
            updates = torch._foreach_lerp(grads, momenta, group["momentum"])
        updates = orthogonalise(updates, group["ns_coefficients"], group["ns_steps"], group["eps"])
        lr = float(group["lr"])
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        for weight, update in zip(weights, updates, strict=True):
            weight.add_(update, alpha=-lr * update_scale(weight.shape, group["adjust_lr_fn"]))


def orthogonalise(
    matrices: Sequence[Tensor], coefficients: tuple[float, float, float], steps: int, eps: float
) -> list[Tensor]:
    """Bring the singular values of matrices near to 1, by Newton-Schulz iterations in bfloat16.

    Args:
        matrices: [M, N] each, of any shapes.
        coefficients: a, b, c of x <- a x + b (x x^T) x + c (x x^T)^2 x.
        steps: iterations.
        eps: smallest Frobenius norm to divide by.

    Returns:
        [M, N] each, bfloat16.
    """
    a, b, c = coefficients
    wide = [matrix.T if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]
    places: dict[Any, list[int]] = {}
    for place, matrix in enumerate(wide):
        places.setdefault((matrix.shape, matrix.device), []).append(place)
    results = list(matrices)
    for same in places.values():
        x = torch.stack([wide[place] for place in same]).bfloat16()
        x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
        for _ in range(steps):
            gram = torch.bmm(x, x.transpose(1, 2))
            factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            x = torch.baddbmm(x, factor, x, beta=a)
        for place, result in zip(same, x, strict=True):
            results[place] = result if wide[place] is matrices[place] else result.T
    return results


def update_scale(shape: torch.Size, adjust_lr_fn: str | None) -> float:
    """Factor of the learning rate by the shape of a matrix, see `torch.optim.Muon`."""
    rows, columns = shape
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * max(rows, columns) ** 0.5
    return max(1.0, rows / columns) ** 0.5
