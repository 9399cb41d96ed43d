"""The usual optimisation step: backward, accumulate, clip, step, schedule."""

import logging
import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from src.trainer.base_trainer import BaseTrainer
from src.trainer.evaluation import Batch
from src.trainer.optimization import Optimization
from src.trainer.settings import ALWAYS
from src.trainer.sharding import uncounted
from src.utils.means import means
from src.utils.phases import phase
from src.utils.shards import whole

logger = logging.getLogger(__name__)


class Trainer(BaseTrainer):
    """Gradient descent on the mean loss of the accumulated batches.

    A step whose loss or gradient isn't finite is discarded whole: weights, running statistics,
    optimizers and schedules stay as they were.

    Args:
        options: of `BaseTrainer`.
    """

    def optimise(self, batches: list[Batch]) -> dict[str, float]:
        """One step of every optimizer on `loss`."""
        return self.update(batches, list(self.optimizations))

    def update(self, batches: list[Batch], names: Sequence[str], loss: str = "loss") -> dict:
        """One step of some of the optimizers.

        Args:
            batches: of one accumulation.
            names: of the optimizers that step; gradients of others aren't used.
            loss: which part of the loss is minimised.

        Returns:
            The parts of the loss, the learning rates and the norm of the gradients before clipping.
        """
        chosen = [self.optimizations[name] for name in names]
        buffers = [buffer.clone() for buffer in self.system.model.buffers()]
        with phase("optimizer"):
            for optimization in self.optimizations.values():
                optimization.optimizer.zero_grad()
        frozen = self.freeze_parts()
        outputs = [self.backward(batch, i, len(batches), loss) for i, batch in enumerate(batches)]
        for module in frozen:  # computed all the same, since several processes wait for them
            module.zero_grad()
        with phase("optimizer"):
            scaler = self.unscale(chosen)
            norms = [self.clip(optimization) for optimization in chosen]
        keys = ["lr", *(f"lr_{name}" for name in names[1:])]
        rates = {key: one.learning_rate for key, one in zip(keys, chosen, strict=True)}
        values = [*norms, *(float(output["parts"][loss]) for output in outputs)]
        with phase("optimizer"):
            finite = self.step_if_finite(chosen, values)
            if scaler is not None:
                scaler.update()  # the loss scale, lower after an overflow
        if finite:
            self.discarded_in_a_row = 0
        else:
            self.discard(outputs, buffers, loss)
        scored = [one for one in outputs if one["id"]]  # whose batches have items
        return {
            **means([{k: float(v) for k, v in one["parts"].items()} for one in scored]),
            **rates,
            "grad_norm": norms[0] if len(norms) == 1 else math.hypot(*norms),
            "discarded_steps": float(self.discarded),
        }

    def freeze_parts(self) -> list[nn.Module]:
        """The submodules that this step must not change, put in evaluation mode."""
        freeze, model = self.settings.freeze, self.system.model
        if not freeze:
            return []
        if self.step in freeze.values():
            model.train()
        frozen = [k for k, steps in freeze.items() if steps == ALWAYS or self.step < int(steps)]
        return [model.get_submodule(name).eval() for name in frozen]

    def backward(self, batch: Batch, i: int, count: int, loss: str) -> dict[str, Any]:
        """Forward and backward pass of one batch.

        Processes exchange gradients, of which they take the mean, only at the last batch of an
        accumulation. If not all of them have a batch there, the others count for more.
        """
        last = i == count - 1
        processes = self.accelerator.num_processes
        weight = batch.get("batches_in_step", count * processes) / processes
        lent = self.lent_batch(batch) if self.in_lockstep else None
        sync = nullcontext() if last else self.accelerator.no_sync(self.wrapped)
        with sync, nullcontext() if lent is None else uncounted(self.system.model):
            parts = self.wrapped(batch if lent is None else lent, loss=loss)
            if lent is not None:
                parts = {loss: 0.0 * parts[loss]}
            with phase("backward"):
                self.accelerator.backward(parts[loss] / weight)
        return {"id": batch["id"], "parts": {key: v.detach() for key, v in parts.items()}}

    def lent_batch(self, batch: Batch) -> Batch | None:
        """Another process's batch, if every file of this process's was skipped but not of all.

        Where processes wait for each other in the forward pass, each must make one, of which
        nothing counts.
        """
        sizes = self.accelerator.gather(
            torch.tensor([len(batch["id"])], device=self.accelerator.device)
        )
        if all(sizes) or not any(sizes):
            return None
        lender = int(sizes.argmax())
        shared = broadcast_object_list([batch], from_process=lender)
        return None if batch["id"] else shared[0]

    def unscale(self, chosen: Sequence[Optimization]) -> torch.amp.GradScaler | None:
        """Divide the gradients by the loss scale of fp16.

        Returns:
            The scaler, which must be updated after the step; None if no gradient is scaled.
        """
        scaler = self.accelerator.scaler
        if scaler is None or all(p.grad is None for one in chosen for p in one.parameters):
            return None
        for optimization in chosen:
            scaler.unscale_(optimization.optimizer)
        return scaler

    def clip(self, optimization: Optimization) -> float:
        """Clip the gradients of an optimizer to the largest allowed norm.

        Returns:
            Their norm before clipping.
        """
        most = self.settings.max_grad_norm or math.inf
        return float(whole(nn.utils.clip_grad_norm_(optimization.parameters, most)))

    def step_if_finite(self, chosen: Sequence[Optimization], values: Sequence[float]) -> bool:
        """Step optimizers and schedules if losses and norms are finite in all processes."""
        finite = all(math.isfinite(value) for value in values)
        if self.accelerator.num_processes > 1:
            flag = torch.tensor([finite], device=self.accelerator.device)
            finite = bool(self.accelerator.gather(flag).all())
        for optimization in chosen if finite else ():
            optimization.optimizer.step()
            optimization.step_schedule()
        return finite

    def discard(self, outputs: list[dict], buffers: list[Tensor], loss: str) -> None:
        """Put running statistics back; name and count the discarded step.

        Raises:
            ValueError: too many in a row.
        """
        with torch.no_grad():
            for buffer, saved in zip(self.system.model.buffers(), buffers, strict=True):
                buffer.copy_(saved)
        self.discarded += 1
        self.discarded_in_a_row += 1
        guilty = [o for o in outputs if not torch.isfinite(o["parts"][loss]).all()] or outputs
        ids = ", ".join(name for output in guilty for name in output["id"])
        logger.warning("step %d discarded, non-finite loss or gradient: %s", self.step + 1, ids)
        if self.discarded_in_a_row >= self.settings.max_discarded:
            raise ValueError(
                f"{self.discarded_in_a_row} steps in a row had a non-finite loss or gradient, "
                f"the last with {ids}."
            )
