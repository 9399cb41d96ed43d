"""Conversion of the names of weights between projects."""

from pathlib import Path

from torch import Tensor, nn


def fill(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights into a model, every one of which must fit.

    Args:
        model: whose weights are replaced.
        weights: by the model's names.
        path: of the file that they are from, for error messages.

    Raises:
        ValueError: a weight is missing, unexpected, of a wrong shape, no real number or not
            finite; names the first.
    """
    check_fit(model, weights, path)
    model.load_state_dict(weights)


def check_fit(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Check that every weight fits a model, which may be on the meta device.

    Args:
        model: with the wanted names and shapes.
        weights: by the model's names.
        path: of the file that they are from, for error messages.

    Raises:
        ValueError: a weight is missing, unexpected, of a wrong shape, no real number or not
            finite; names the first.
    """
    own = model.state_dict()
    errors = [f"{name} is missing" for name in own.keys() - weights.keys()]
    errors += [f"{name} is unexpected" for name in weights.keys() - own.keys()]
    errors += [
        f"{name} has shape {list(weights[name].shape)}, expected {list(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if own[name].shape != weights[name].shape
    ]
    errors += [
        f"{name} is {weights[name].dtype} or not finite"
        for name in own.keys() & weights.keys()
        if own[name].is_floating_point() and not is_finite(weights[name])
    ]
    if errors:
        raise ValueError(f"{path}: {len(errors)} weights don't match; the first: {min(errors)}.")


def is_finite(weight: Tensor) -> bool:
    """Whether a weight consists of finite real numbers."""
    return weight.is_floating_point() and bool(weight.isfinite().all())


def replaced(name: str, prefixes: dict[str, str]) -> str:
    """Replace the first of `prefixes` with which a dotted name begins, if there is one.

    Args:
        name: of a weight, as in a state dict.
        prefixes: old to new, each one or more whole parts of a name.
    """
    for old, new in prefixes.items():
        if name == old or name.startswith(old + "."):
            return new + name[len(old) :]
    return name


def inverted(prefixes: dict[str, str]) -> dict[str, str]:
    """Swap old and new prefixes."""
    return {new: old for old, new in prefixes.items()}
