"""The metric that chooses the best checkpoint and stops training early."""

import logging
import math
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)


class Monitor:
    """Tracks the best value of a metric.

    Args:
        name: of the metric, e.g. `val/WER`; None: no best checkpoint.
        patience: evaluations without improvement before training stops; None: no early stopping.
        directions: name of each available metric -> whether higher is better; None if it has no
            direction.

    Attributes:
        best: the best value so far; None: there is none.
        best_values: all values of the evaluation that had it.
        evaluations_since_best: how many there were since.

    Raises:
        ValueError: there is no such metric, or it has no direction; or patience needs one.
    """

    def __init__(
        self, name: str | None, patience: int | None, directions: Mapping[str, bool | None]
    ):
        if name is None and patience is not None and directions:  # without evaluations: no effect
            raise ValueError("config, trainer.patience: needs trainer.monitor, e.g. val/loss.")
        if name is not None and directions.get(name) is None:
            names = ", ".join(key for key, higher in directions.items() if higher is not None)
            wanted = f"one of {names}" if names else "null, or evaluations in trainer.validate_on"
            raise ValueError(f"config, trainer.monitor: '{name}'; wanted {wanted}.")
        self.name, self.patience = name, patience
        self.higher_is_better = name is not None and bool(directions[name])
        self.sign = -1 if self.higher_is_better else 1
        self.best: float | None = None
        self.best_values: dict[str, float] = {}
        self.evaluations_since_best = 0

    def is_better(self, values: Mapping[str, float]) -> bool:
        """Record the metrics of an evaluation; whether it is the best so far. NaN never is.

        Raises:
            ValueError: the monitored one isn't among them.
        """
        if self.name is None:
            return False
        if self.name not in values:
            raise ValueError(
                f"{self.name}: no value to monitor, only of {', '.join(values) or 'nothing'}."
            )
        value = values[self.name]
        if not math.isnan(value) and (
            self.best is None or self.sign * value < self.sign * self.best
        ):
            self.best, self.best_values = value, dict(values)
            self.evaluations_since_best = 0
            return True
        self.evaluations_since_best += 1
        return False

    def out_of_patience(self) -> bool:
        """Whether training should stop early."""
        return self.patience is not None and self.evaluations_since_best >= self.patience

    def log_early_stop(self, epoch: int) -> None:
        """Log that patience is used up.

        Args:
            epoch: number of epochs so far.
        """
        logger.info(
            "Early stopping after epoch %d; evaluations since the best %s: %d "
            "(trainer.patience=%d).",
            epoch,
            self.name,
            self.evaluations_since_best,
            self.patience,
        )

    def state_dict(self) -> dict[str, Any]:
        """State to save in a checkpoint."""
        return {
            "name": self.name,
            "best": self.best,
            "best_values": self.best_values,
            "evaluations_since_best": self.evaluations_since_best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Restore the state of a checkpoint, unless it is that of another metric.

        Returns:
            Whether it is of the same one, as is a state without a name, of an earlier version.
        """
        before = state.get("name", self.name)
        if before != self.name:
            logger.info(
                "trainer.monitor: %s instead of %s, without a best value yet.", self.name, before
            )
            return False
        self.best, self.best_values = state["best"], state.get("best_values", {})
        self.evaluations_since_best = state["evaluations_since_best"]
        return True
