"""NovoGrad, an optimizer with layer-wise second moments (Ginsburg et al., arXiv 1905.11286)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from src.utils.options import check_number, is_finite, refuse


class NovoGrad(Optimizer):
    """Momentum of gradients that are normalised by their layer, with decoupled weight decay.

    Algorithm 1 of the paper; every tensor w with gradient g is a layer:

        v <- beta2 v + (1 - beta2) |g|^2            (v = |g|^2 while v is 0)
        m <- beta1 m + g / (sqrt(v) + eps) + weight_decay w            (at first beta1 m = 0)
        w <- w - lr m

    The state is one tensor like w and one number for each w, half of Adam's. The paper sets v at
    the first step; NeMo does so as long as v is 0, which also counts for a first gradient of 0.

    Args:
        params: tensors, or parameter groups that may replace the other arguments.
        lr: learning rate.
        betas: (beta1, beta2), from 0 to less than 1.
        eps: added to sqrt(v).
        weight_decay: from 0 on.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        betas: Sequence[float] = (0.95, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        check_number("optimizer, lr", lr, inclusive=True)
        check_number("optimizer, eps", eps, inclusive=True)
        check_number("optimizer, weight_decay", weight_decay, inclusive=True)
        if len(betas) != 2 or not all(is_finite(beta) and 0 <= beta < 1 for beta in betas):
            refuse("optimizer, betas", list(betas), "two numbers from 0 to less than 1")
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update the parameters that have gradients.

        Args:
            closure: computes the loss and its gradients again; None: they are there.

        Returns:
            What closure returns, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.update(parameter, parameter.grad, group)
        return loss

    def update(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        """Update a parameter and its state.

        Args:
            parameter: w.
            grad: g.
            group: with lr, betas, eps and weight_decay.
        """
        beta1, beta2 = group["betas"]
        state = self.state[parameter]
        square = torch.linalg.vector_norm(grad).square()
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(square)
        average = state["exp_avg_sq"]
        # Without a branch on a value, for which a GPU would have to be waited.
        average.copy_(torch.where(average == 0, square, average.lerp(square, 1 - beta2)))
        scale = average.sqrt() + group["eps"]
        momentum = state["exp_avg"].mul_(beta1).addcdiv_(grad, scale)
        if group["weight_decay"]:
            momentum.add_(parameter, alpha=group["weight_decay"])
        parameter.add_(momentum, alpha=-group["lr"])
