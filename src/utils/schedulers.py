"""Learning-rate schedules that torch does not have."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Noam(LRScheduler):
    """Linear warm-up, then decay with the inverse square root of the step.

    lr = base * d_model^-0.5 * min(step^-0.5, step * warmup_steps^-1.5), as in section 5.3 of
    "Attention Is All You Need" (arXiv 1706.03762), with a floor after the warm-up.

    Args:
        optimizer: its `lr` is `base`.
        d_model: width of the model.
        warmup_steps: steps of the warm-up.
        min_lr: floor after the warm-up.
    """

    def __init__(
        self, optimizer: Optimizer, d_model: int, warmup_steps: int, min_lr: float = 0.0
    ) -> None:
        self.d_model, self.warmup_steps, self.min_lr = d_model, warmup_steps, min_lr
        super().__init__(optimizer)

    def get_lr(self) -> list:
        """The rate of each parameter group for the coming step."""
        step = self.last_epoch + 1
        scale = self.d_model**-0.5 * min(step**-0.5, step * self.warmup_steps**-1.5)
        floor = self.min_lr if step > self.warmup_steps else 0.0
        return [max(base * scale, floor) for base in self.base_lrs]


class WarmupCosine(LRScheduler):
    """Linear warm-up to each group's own rate, then half a cosine down to nothing.

    Args:
        optimizer: its groups may have different rates.
        total_steps: of the run.
        warmup: share of them.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.1) -> None:
        self.total_steps = max(total_steps, 1)
        self.warmup_steps = max(1, round(warmup * total_steps))
        super().__init__(optimizer)

    def state_dict(self) -> dict:
        """Without the length of the run, so that one that goes on can be made longer."""
        own = super().state_dict()
        return {k: v for k, v in own.items() if k not in ("total_steps", "warmup_steps")}

    def get_lr(self) -> list:
        """The rate of each parameter group for the coming step."""
        step = self.last_epoch + 1
        left = (self.total_steps - step) / max(1, self.total_steps - self.warmup_steps)
        cosine = 0.5 * (1 - math.cos(math.pi * min(1.0, max(0.0, left))))
        return [base * min(step / self.warmup_steps, cosine) for base in self.base_lrs]
