"""Learning-rate schedules that torch does not have."""

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
