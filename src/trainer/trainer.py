"""The usual optimisation step: backward, accumulate, clip, step, schedule."""

import logging
import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src.trainer.base_trainer import BaseTrainer
from src.trainer.evaluation import Batch, to_device
from src.trainer.pretrained import submodule

logger = logging.getLogger(__name__)


class Trainer(BaseTrainer):
    """Gradient descent on the mean loss of the accumulated batches.

    A step whose loss or gradient isn't finite is discarded whole: weights, running statistics,
    optimizer and schedule stay as they were.

    Args:
        freeze: submodule -> steps at the beginning during which it is not trained: its weights and
            running statistics stay as they are, and it runs in evaluation mode.
        options: of `BaseTrainer`.
    """

    discarded_in_a_row = 0
    discarded = 0

    def __init__(self, *, freeze: dict[str, int] | None = None, **options: Any):
        super().__init__(**options)
        self.freeze = freeze or {}
        for name in self.freeze:
            submodule(self.bare_model(), name, "trainer.freeze")

    def optimise(self, batches: list[Batch]) -> dict[str, float]:
        """One step; figures are the loss and its parts, the rate and the gradient's norm."""
        buffers = [buffer.clone() for buffer in self.bare_model().buffers()]
        self.optimizer.zero_grad()
        frozen = self.hold()
        outputs = [self.backward(batch, i, batches) for i, batch in enumerate(batches)]
        for module in frozen:  # computed all the same, since several processes wait for them
            module.zero_grad()
        norm = float(
            self.accelerator.clip_grad_norm_(
                self.model.parameters(), self.max_grad_norm or math.inf
            )
        )
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer_step(norm, outputs, buffers)
        return {
            **mean_of_parts(outputs),
            "lr": rate,
            "grad_norm": norm,
            "discarded_steps": float(self.discarded),
        }

    def hold(self) -> list[nn.Module]:
        """The submodules that this step must not change, put in evaluation mode."""
        if not self.freeze:
            return []
        model = self.bare_model()
        if self.step in self.freeze.values():
            model.train()
        held = [name for name, steps in self.freeze.items() if self.step < steps]
        return [model.get_submodule(name).eval() for name in held]

    def backward(self, batch: Batch, i: int, batches: list[Batch]) -> Batch:
        """Forward and backward of one batch; processes exchange gradients only at the last."""
        last = i == len(batches) - 1
        with nullcontext() if last else self.accelerator.no_sync(self.model):
            batch = self.transforms["train"](**to_device(batch, self.accelerator.device))
            batch |= self.model(**batch)
            found = self.loss(**batch)
            self.accelerator.backward(found["loss"] / len(batches))
        parts = {key: value.detach() for key, value in found.items()}
        return {"id": batch["id"], "parts": parts}

    def optimizer_step(self, norm: float, outputs: list[Batch], buffers: list[Tensor]) -> None:
        """Step and schedule, or discard.

        The norm is that of the gradients of all processes, so all decide alike. With fp16 the
        optimizer is called in any case: its loss scale must hear of the overflow.
        """
        finite = math.isfinite(norm)
        if finite or self.accelerator.scaler is not None:
            self.optimizer.step()
        if finite:
            self.discarded_in_a_row = 0
            if self.scheduler and not isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step()
            return
        with torch.no_grad():
            for buffer, kept in zip(self.bare_model().buffers(), buffers, strict=True):
                buffer.copy_(kept)
        self.note_discarded(outputs)

    def note_discarded(self, outputs: list[Batch]) -> None:
        """Name and count the discarded step.

        Raises:
            ValueError: too many in a row.
        """
        self.discarded += 1
        self.discarded_in_a_row += 1
        guilty = [o for o in outputs if not torch.isfinite(o["parts"]["loss"]).all()] or outputs
        ids = ", ".join(name for output in guilty for name in output["id"])
        logger.warning("step %d discarded, non-finite loss or gradient: %s", self.step + 1, ids)
        if self.discarded_in_a_row >= self.max_discarded:
            raise ValueError(
                f"{self.discarded_in_a_row} steps in a row had a non-finite loss or gradient, "
                f"the last with {ids}."
            )


def mean_of_parts(outputs: list[Batch]) -> dict[str, float]:
    """Each part of the loss, averaged over the batches of a step."""
    return {
        key: sum(float(output["parts"][key]) for output in outputs) / len(outputs)
        for key in outputs[0]["parts"]
    }
