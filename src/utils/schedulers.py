"""Learning-rate schedules that torch does not have, or not for every length of a run."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from src.utils.options import check_number, check_whole


class Noam(LRScheduler):
    """Linear warm-up, then decay with the inverse square root of the step.

    lr = base_lr * d_model^-0.5 * min(step^-0.5, step * warmup_steps^-1.5), section 5.3 of
    "Attention Is All You Need" (arXiv 1706.03762), with a lower bound after the warm-up.

    Args:
        optimizer: the `lr` of its parameter groups is base_lr.
        d_model: model dimension.
        warmup_steps: number of warm-up steps.
        min_lr: lower bound of the learning rate after the warm-up.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, optimizer: Optimizer, d_model: int, warmup_steps: int, min_lr: float = 0.0
    ) -> None:
        check_whole("scheduler, d_model", d_model)
        check_whole("scheduler, warmup_steps", warmup_steps)
        check_number("scheduler, min_lr", min_lr, inclusive=True)
        self.d_model, self.warmup_steps, self.min_lr = d_model, warmup_steps, min_lr
        super().__init__(optimizer)

    def get_lr(self) -> list:
        """Learning rate of each parameter group for the next step."""
        step = self.last_epoch + 1
        scale = self.d_model**-0.5 * min(step**-0.5, step * self.warmup_steps**-1.5)
        lower_bound = self.min_lr if step > self.warmup_steps else 0.0
        return [max(base_lr * scale, lower_bound) for base_lr in self.base_lrs]


class WarmupCosine(LRScheduler):
    """Linear warm-up to the learning rate of each parameter group, then cosine decay to 0.

    Args:
        optimizer: its parameter groups may have different learning rates.
        total_steps: number of optimisation steps of the run.
        warmup_fraction: fraction of `total_steps` for the warm-up.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int, warmup_fraction: float = 0.1
    ) -> None:
        check_whole("scheduler, total_steps", total_steps, low=0)
        check_number("scheduler, warmup_fraction", warmup_fraction, 0, 1, inclusive=True)
        self.total_steps = max(total_steps, 1)
        self.warmup_steps = max(1, round(warmup_fraction * total_steps))
        super().__init__(optimizer)

    def get_lr(self) -> list:
        """Learning rate of each parameter group for the next step."""
        step = self.last_epoch + 1
        remaining = (self.total_steps - step) / max(1, self.total_steps - self.warmup_steps)
        cosine = 0.5 * (1 - math.cos(math.pi * min(1.0, max(0.0, remaining))))
        return [base_lr * min(step / self.warmup_steps, cosine) for base_lr in self.base_lrs]


class OneCycle(OneCycleLR):
    """One-cycle policy (arXiv 1708.07120), also of runs as short as ten steps.

    Torch's OneCycleLR fails at its first step where the learning rate rises in exactly one step;
    here that step has the highest learning rate already, as in a shorter run.

    Args:
        optimizer: its parameter groups get the learning rates of the policy.
        total_steps: number of optimisation steps of the run.
        pct_start: fraction of `total_steps` in which the learning rate rises.
        options: further arguments of OneCycleLR, e.g. `max_lr`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int, pct_start: float = 0.3, **options: Any
    ) -> None:
        if pct_start * total_steps == 1:  # torch divides by the difference
            pct_start *= 1 - 1e-9
        super().__init__(optimizer, total_steps=total_steps, pct_start=pct_start, **options)
