"""Checks of a trainer's settings against what it was given."""

from typing import Any

from src.utils.modules import submodule


def check_names(trainer: Any) -> None:
    """Check that the evaluations and parts that the settings of a trainer name exist.

    Args:
        trainer: `src.trainer.base_trainer.BaseTrainer`.

    Raises:
        ValueError: one doesn't; or a schedule needs a monitored metric, or the loss has parameters.
    """
    for key in ("validate_on", "test_on"):
        for name in getattr(trainer.settings, key):
            if name not in trainer.evaluations:
                names = ", ".join(trainer.evaluations)
                raise ValueError(f"config, trainer.{key}: no evaluation '{name}' of {names}.")
    for name in trainer.settings.freeze:
        submodule(trainer.system.model, name, "trainer.freeze")
    needs_metric = any(one.needs_metric for one in trainer.optimizations.values())
    # Without evaluations, as in debug=augment, such a schedule is constant.
    if needs_metric and trainer.settings.monitor is None and trainer.settings.validate_on:
        raise ValueError("config, scheduler: needs trainer.monitor, e.g. val/loss.")
    loss = trainer.system.loss
    if loss is not None and any(parameter.requires_grad for parameter in loss.parameters()):
        raise ValueError("config, loss: has parameters of its own, which no optimizer trains.")
