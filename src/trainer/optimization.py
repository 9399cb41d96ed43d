"""Named optimizers, each with its parameters and its learning rate schedule."""

import inspect
import logging
import math
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src.config import build
from src.utils.modules import submodule
from src.utils.options import check_number
from src.utils.shards import is_sharded, like

logger = logging.getLogger(__name__)

# What schedulers derive from the length of the run, so that a resumed run can be made longer.
LENGTH_KEYS = ("total_steps", "warmup_steps", "_schedule_phases")

SHARED = ("parts", "lr_scales", "layer_decay")  # with an optimizer that another one is like


class Optimization:
    """An optimizer with its parameters and its learning rate schedule.

    Args:
        optimizer: of torch, not wrapped by the accelerator.
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
        """Step the schedule after an optimisation step, unless it is over.

        It may be before the run is, whose length is an estimate for large datasets.
        """
        if self.scheduler is None or self.needs_metric:
            return
        if self.scheduler.last_epoch < getattr(self.scheduler, "total_steps", math.inf):
            self.scheduler.step()

    def follow(self, higher_is_better: bool, anew: bool = False) -> None:
        """Tell a schedule of torch that depends on the monitored metric which values are better.

        Args:
            higher_is_better: whether a larger value of the metric is better.
            anew: whether it is another metric than so far, whose best value says nothing.
        """
        if not isinstance(self.scheduler, ReduceLROnPlateau):
            return
        mode, worst = ("max", -math.inf) if higher_is_better else ("min", math.inf)
        if anew or self.scheduler.mode != mode:
            self.scheduler.mode, self.scheduler.best = mode, worst
            self.scheduler.num_bad_epochs = 0

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
        own = state["optimizer"]
        if any(map(is_sharded, self.parameters)):
            own = {**own, "state": self.sharded(own["state"])}
        self.optimizer.load_state_dict(own)
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])

    def sharded(self, states: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """The state of each parameter, of which tensors of its shape are sharded like it."""
        groups = self.optimizer.param_groups
        parameters = dict(enumerate(one for group in groups for one in group["params"]))
        return {
            number: {
                key: like(value, parameters[number])
                if getattr(value, "shape", None) == parameters[number].shape
                else value
                for key, value in state.items()
            }
            for number, state in states.items()
        }


def build_optimizations(config: DictConfig, model: nn.Module) -> dict[str, Optimization]:
    """The optimizers and schedulers of `config.optimizers`, by name; null entries are left out.

    Each may have `like` (another one, whose `parts`, `lr_scales` and `layer_decay` it has unless it
    has its own), `parts` (submodules of the model; null: the whole model), `linear_weights` (true:
    of these only the weights of linear layers, as for Muon; false: all but these), `lr_scales`
    (submodule -> factor of the learning rate), `layer_decay` (list of layers -> further factor from
    each layer to the one before it), and an `optimizer` and a `scheduler` that replace those of
    the experiment.

    Args:
        config: of an experiment.
        model: whose parameters are trained.

    Raises:
        ValueError: no optimizer, a part that the model doesn't have, or a parameter that two
            optimizers would train; or none has any.
    """
    names = [name for name, node in (config.get("optimizers") or {}).items() if node is not None]
    if not names:
        raise ValueError("config, optimizers: none; wanted at least one, e.g. {main: {}}.")
    built = {name: build_optimization(config, name, model) for name in names}
    optimizations = {name: one for name, one in built.items() if one is not None}
    if not optimizations:
        raise ValueError(f"config, optimizers: none of {', '.join(names)} has a weight to train.")
    seen: dict[int, str] = {}
    for name, optimization in optimizations.items():
        for parameter in optimization.parameters:
            if seen.setdefault(id(parameter), name) != name:
                first = seen[id(parameter)]
                raise ValueError(f"config, optimizers.{name}: trains parameters of '{first}' too.")
    left = [name for name, parameter in model.named_parameters() if id(parameter) not in seen]
    if left and any(config.optimizers[name].get("linear_weights") is not None for name in names):
        logger.warning(
            "%d parameters are trained by no optimizer, e.g. %s; where optimizers.<name>."
            "linear_weights is set, another one trains the rest.",
            len(left),
            left[0],
        )
    return optimizations


def build_optimization(config: DictConfig, name: str, model: nn.Module) -> Optimization | None:
    """The optimizer and scheduler of `config.optimizers.<name>`.

    None where `linear_weights` leaves nothing to train, as in a model without linear layers.

    Raises:
        ValueError: there is no optimizer, or none that it should be like, or the model lacks a part
            that the config names.
    """
    key = f"optimizers.{name}"
    own = config.optimizers[name]
    parts, scales, decays = (shared_option(config.optimizers, name, option) for option in SHARED)
    source = own if "optimizer" in own else config
    if source.get("optimizer") is None:
        raise ValueError(f"config, {key}: no optimizer; choose one, e.g. optimizer=adamw.")
    whole = named_parameters(model, parts, f"{key}.parts")
    parameters = select_linear(model, whole, own.get("linear_weights"))
    if not parameters:
        logger.info("optimizers.%s is left out: the model has no weights for it.", name)
        return None
    scales, reason = scales or {}, f"{key}.lr_scales"
    for part, scale in scales.items():
        check_number(f"config, {reason}.{part}", scale, inclusive=True)
    scales = {  # without those whose parameters all are of another optimizer
        part: scale
        for part, scale in scales.items()
        if has_part(parameters, part) or not has_part(whole, part)
    }
    for layers, decay in (decays or {}).items():
        reason = f"{key}.layer_decay"
        decayed = decayed_scales(model, scales, layers, decay, reason)
        trained = [part for part in decayed if has_part(parameters, part)]
        kept = {*scales, *(trained or decayed)}  # others have parameters of other optimizers alone
        scales = {part: scale for part, scale in decayed.items() if part in kept}
    groups = parameter_groups(parameters, scales, source.optimizer.get("lr"), reason)
    optimizer = build(source, "optimizer", params=groups)
    learning_rates = [group["lr"] for group in optimizer.param_groups]
    scheduler = build(own if "scheduler" in own else config, "scheduler", optimizer=optimizer)
    check_scales(optimizer, learning_rates, reason)
    return Optimization(optimizer, scheduler, [p for _, p in parameters])


def shared_option(optimizers: DictConfig, name: str, key: str) -> Any:
    """An option of an optimizer or else, if it has none, of the optimizer that it is like.

    Args:
        optimizers: nodes by name.
        name: of the optimizer.
        key: of the option.

    Raises:
        ValueError: there is no optimizer that it should be like.
    """
    value, other = optimizers[name].get(key), optimizers[name].get("like")
    if other is None:
        return value
    if other == name or optimizers.get(other) is None:
        raise ValueError(f"config, optimizers.{name}.like: {other}; there is no such optimizer.")
    return optimizers[other].get(key) if value is None else value


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


def select_linear(
    model: nn.Module, parameters: list[tuple[str, nn.Parameter]], linear: bool | None
) -> list[tuple[str, nn.Parameter]]:
    """Only the weights of the linear layers among some parameters, or only the others.

    Args:
        model: with the parameters.
        parameters: names and parameters.
        linear: True for the weights of torch.nn.Linear, False for the others, None for all.
    """
    if linear is None:
        return parameters
    weights = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    return [(name, one) for name, one in parameters if (id(one) in weights) == linear]


def decayed_scales(
    model: nn.Module, scales: Mapping[str, float], name: str, decay: float, key: str
) -> dict[str, float]:
    """Factors of learning rates that decrease from the last of some layers to the first.

    As in the fine-tuning of ELECTRA (arXiv 2003.10555, appendix B) and BEiT (arXiv 2106.08254):
    layer i of n gets the factor decay^(n + 1 - i), and what comes before the layers in the
    submodule that has them decay^(n + 1). The rest, e.g. a new head, has none.

    Args:
        model: with the layers.
        scales: submodule -> factor, which is multiplied by that of the layer.
        name: of a torch.nn.ModuleList of the model.
        decay: factor from each layer to the one before it, above 0 and up to 1.
        key: of the config, for error messages.

    Returns:
        `scales` with an entry for each layer and for each module before the layers.

    Raises:
        ValueError: the model has no such list of layers, or the factor is out of range.
    """
    check_number(f"config, {key}.{name}", decay, 0, 1)
    layers = submodule(model, name, key)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(f"config, {key}: '{name}' is no list of layers (torch.nn.ModuleList).")
    owner, _, own_name = name.rpartition(".")
    siblings = dict(model.get_submodule(owner).named_children())
    before = list(siblings)[: list(siblings).index(own_name)]
    prefix = f"{owner}." if owner else ""
    trained = [child for child in before if any(True for _ in siblings[child].parameters())]
    powers = {f"{prefix}{child}": len(layers) + 1 for child in trained}
    powers |= {f"{name}.{i}": len(layers) - i for i in range(len(layers))}
    decayed = dict(scales)
    for place, power in powers.items():
        parts = [part for part in scales if inside(place, part)]
        decayed[place] = decay**power * (scales[max(parts, key=len)] if parts else 1.0)
    return decayed


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
        ValueError: a submodule has none of them, or there is no learning rate to scale.
    """
    if not scales:
        return [parameter for _, parameter in parameters]
    if learning_rate is None:
        raise ValueError(f"config, {key}: the optimizer has no lr that could be scaled.")
    groups: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in ("", *scales)}
    for name, parameter in parameters:
        groups[max((p for p in groups if not p or inside(name, p)), key=len)].append(parameter)
    for prefix in scales:
        if not has_part(parameters, prefix):
            raise ValueError(f"config, {key}: no parameter that is trained is in '{prefix}'.")
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


def has_part(parameters: list[tuple[str, nn.Parameter]], part: str) -> bool:
    """Whether some of the named parameters belong to a submodule."""
    return any(inside(name, part) for name, _ in parameters)


def inside(name: str, part: str) -> bool:
    """Whether a parameter belongs to a submodule."""
    return f"{name}.".startswith(f"{part}.")
