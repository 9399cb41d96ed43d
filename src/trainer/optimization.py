"""Named optimizers, each with its parameters and its learning rate schedule."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from src.config import build
from src.utils.modules import submodule

logger = logging.getLogger(__name__)

# What schedulers derive from the length of the run, so that a resumed run can be made longer.
LENGTH_KEYS = ("total_steps", "warmup_steps", "_schedule_phases")


class Optimization:
    """An optimizer with its parameters and its learning rate schedule.

    Args:
        optimizer: as prepared by the accelerator.
        scheduler: stepped after each optimisation step; if its `step` takes `metrics`, like that
            of torch's ReduceLROnPlateau, after each evaluation. None: constant learning rate.
        parameters: of the optimizer, in the order of the model.
    """

    def __init__(self, optimizer: Optimizer, scheduler: Any, parameters: list[nn.Parameter]):
        self.optimizer, self.scheduler, self.parameters = optimizer, scheduler, parameters
        self.needs_metric = (
            scheduler is not None and "metrics" in inspect.signature(scheduler.step).parameters
        )

    @property
    def learning_rate(self) -> float:
        """Learning rate of the first parameter group."""
        return self.optimizer.param_groups[0]["lr"]

    def step_schedule(self) -> None:
        """Step the schedule after an optimisation step."""
        if self.scheduler is not None and not self.needs_metric:
            self.scheduler.step()

    def step_on_metric(self, value: float) -> None:
        """Step a schedule that depends on the monitored metric, after an evaluation."""
        if self.needs_metric:
            self.scheduler.step(value)

    def state_dict(self) -> dict[str, Any]:
        """State to save in a checkpoint."""
        schedule = self.scheduler.state_dict() if self.scheduler is not None else {}
        position = {key: value for key, value in schedule.items() if key not in LENGTH_KEYS}
        return {"optimizer": self.optimizer.state_dict(), "scheduler": position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])


def build_optimizations(config: DictConfig, model: nn.Module) -> dict[str, Optimization]:
    """The optimizers and schedulers of `config.optimizers`, by name; null entries are left out.

    Each may have `parts` (submodules of the model; null: the whole model), `lr_scales` (submodule
    -> factor of the learning rate), and an `optimizer` and a `scheduler` that replace those of the
    experiment.

    Args:
        config: of an experiment.
        model: whose parameters are trained.

    Raises:
        ValueError: no optimizer, a part that the model doesn't have, or a parameter that two
            optimizers would train.
    """
    names = [name for name, node in (config.get("optimizers") or {}).items() if node is not None]
    if not names:
        raise ValueError("config, optimizers: none; wanted at least one, e.g. {main: {}}.")
    optimizations = {name: build_optimization(config, name, model) for name in names}
    seen: dict[int, str] = {}
    for name, optimization in optimizations.items():
        for parameter in optimization.parameters:
            if seen.setdefault(id(parameter), name) != name:
                first = seen[id(parameter)]
                raise ValueError(f"config, optimizers.{name}: trains parameters of '{first}' too.")
    return optimizations


def build_optimization(config: DictConfig, name: str, model: nn.Module) -> Optimization:
    """The optimizer and scheduler of `config.optimizers.<name>`.

    Raises:
        ValueError: there is no optimizer, or the model lacks a part that the config names.
    """
    key = f"optimizers.{name}"
    own = config.optimizers[name]
    source = own if "optimizer" in own else config
    if source.get("optimizer") is None:
        raise ValueError(f"config, {key}: no optimizer; choose one, e.g. optimizer=adamw.")
    parameters = named_parameters(model, own.get("parts"), f"{key}.parts")
    scales = own.get("lr_scales") or {}
    groups = parameter_groups(parameters, scales, source.optimizer.get("lr"), f"{key}.lr_scales")
    optimizer = build(source, "optimizer", params=groups)
    learning_rates = [group["lr"] for group in optimizer.param_groups]
    scheduler = build(own if "scheduler" in own else config, "scheduler", optimizer=optimizer)
    check_scales(optimizer, learning_rates, f"{key}.lr_scales")
    return Optimization(optimizer, scheduler, [p for _, p in parameters])


def named_parameters(
    model: nn.Module, parts: list[str] | str | None, key: str
) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters of a model, or of some of its submodules, in the order of the model.

    Args:
        model: with the submodules.
        parts: names of submodules; None: the whole model.
        key: of the config, for error messages.

    Raises:
        ValueError: the model has no such submodule.
    """
    if parts is None:
        return list(model.named_parameters())
    names = [parts] if isinstance(parts, str) else list(parts)
    for name in names:
        submodule(model, name, key)
    return [(n, p) for n, p in model.named_parameters() if any(inside(n, part) for part in names)]


def parameter_groups(
    parameters: list[tuple[str, nn.Parameter]],
    scales: Mapping[str, float],
    learning_rate: float | None,
    key: str,
) -> list[Any]:
    """Parameters for torch.optim, with a group for each submodule of `scales`.

    Args:
        parameters: names and parameters.
        scales: submodule -> factor of its learning rate; the longest matching name counts.
        learning_rate: of parameters in none of the submodules.
        key: of the config, for error messages.

    Raises:
        ValueError: a submodule has no parameters, or there is no learning rate to scale.
    """
    if not scales:
        return [parameter for _, parameter in parameters]
    if learning_rate is None:
        raise ValueError(f"config, {key}: the optimizer has no lr that could be scaled.")
    groups: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in ("", *scales)}
    for name, parameter in parameters:
        groups[max((p for p in groups if not p or inside(name, p)), key=len)].append(parameter)
    for prefix, members in groups.items():
        if prefix and not members:
            raise ValueError(f"config, {key}: no parameter of the model is in '{prefix}'.")
    return [
        {"params": members, "lr": learning_rate * scales.get(prefix, 1.0)}
        for prefix, members in groups.items()
        if members
    ]


def check_scales(optimizer: Optimizer, expected: list[float], key: str) -> None:
    """Check that a scheduler preserves the ratios of the learning rates of parameter groups.

    Args:
        optimizer: after the scheduler was created.
        expected: learning rate of each group before that.
        key: of the config, for error messages.

    Raises:
        ValueError: the ratios changed, as with torch's OneCycleLR and a single `max_lr`.
    """
    actual = [group["lr"] for group in optimizer.param_groups]
    for lr, wanted in zip(actual, expected, strict=True):
        if abs(lr * expected[0] - actual[0] * wanted) > 1e-6 * abs(actual[0] * wanted):
            raise ValueError(
                f"config, {key}: the scheduler gives all parts one learning rate; "
                "take another, e.g. scheduler=warmup_cosine."
            )


def inside(name: str, part: str) -> bool:
    """Whether a parameter belongs to a submodule."""
    return f"{name}.".startswith(f"{part}.")
