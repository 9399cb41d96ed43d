"""Averages of a model's weights over training."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from src.utils.options import check_number, check_whole
from src.utils.shards import like


class WeightAverage:
    """An average of the weights over steps or over epochs, for evaluations and checkpoints.

    Running statistics are averaged like weights; integers are those of the model. Without
    `ema_decay` and `last_epochs` nothing is averaged.

    Args:
        model: that is trained.
        ema_decay: decay of an exponential moving average over steps. In the first steps it is
            (1 + n) / (10 + n) after n steps, where that is smaller, since weights of the start
            would stay in the average too long.
        last_epochs: the mean of the weights after each of so many last epochs (Izmailov et al.,
            arXiv 1803.05407); until then, those after the last epoch.
        epochs: of the run.
    """

    def __init__(
        self,
        model: nn.Module,
        ema_decay: float | None = None,
        last_epochs: int | None = None,
        epochs: int = 1,
    ):
        self.model = model
        self.ema_decay, self.last_epochs, self.epochs = ema_decay, last_epochs, epochs
        self.steps = 0  # that are averaged
        self.epoch = -1  # the last one that is averaged
        self.average: dict[str, Tensor] = {}
        if ema_decay is not None or last_epochs is not None:
            self.average = {name: value.clone() for name, value in self.trained().items()}

    def trained(self) -> dict[str, Tensor]:
        """The tensors of the model that are averaged: all those of floating point."""
        tensors = [*self.model.named_parameters(), *self.model.named_buffers()]  # shared ones once
        return {name: one.detach() for name, one in tensors if one.is_floating_point()}

    def after_step(self) -> None:
        """Add the weights after a step to an average over steps."""
        if self.ema_decay is not None:
            self.steps += 1
            decay = min(self.ema_decay, (1 + self.steps) / (10 + self.steps))
            self.add(1 - decay)

    def after_epoch(self, epoch: int) -> None:
        """Add the weights after an epoch, counted from 0, to an average over epochs, but once."""
        if self.last_epochs is not None and epoch > self.epoch:
            self.epoch = epoch
            self.add(1 / max(1, epoch + 1 - self.epochs + self.last_epochs))

    @torch.no_grad()
    def add(self, weight: float) -> None:
        """Move the average towards the weights of the model, by a fraction of the difference."""
        for name, value in self.trained().items():
            self.average[name].lerp_(value.to(self.average[name].device), weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the model has the averaged weights."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Exchange the weights of the model and the average, in place."""
        if self.average:
            for name, value in self.trained().items():
                trained = value.clone()
                value.copy_(self.average[name])
                self.average[name].copy_(trained)

    def state_dict(self) -> dict[str, Any]:
        """State to save in a checkpoint, whose weights are the average: the trained weights."""
        own = self.trained() if self.average else {}
        trained = {name: value.clone() for name, value in own.items()}
        return {"steps": self.steps, "epoch": self.epoch, "trained": trained}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint, after its weights were loaded into the model."""
        self.steps, self.epoch = state["steps"], state["epoch"]
        for name, average in self.average.items():
            average.copy_(like(state["trained"][name], average))
        self.exchange()


def check_average(ema_decay: float | None, last_epochs: int | None, epochs: int) -> None:
    """Check `trainer.average`.

    Raises:
        ValueError: both or neither is given, or a value is not allowed.
    """
    if (ema_decay is None) == (last_epochs is None):
        raise ValueError("config, trainer.average: give one of ema_decay and last_epochs.")
    check_number("trainer.average.ema_decay", ema_decay, 0, 1, optional=True)
    check_whole("trainer.average.last_epochs", last_epochs, 1, epochs, optional=True)
