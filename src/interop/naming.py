"""Names of weights here and elsewhere."""

from pathlib import Path

from torch import Tensor, nn


def fill(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Put weights into a model, all of them.

    Raises:
        ValueError: a name or shape doesn't fit.
    """
    own = model.state_dict()
    faults = [f"{name} is missing" for name in own.keys() - weights.keys()]
    faults += [f"{name} is unexpected" for name in weights.keys() - own.keys()]
    faults += [
        f"{name} has shape {list(weights[name].shape)}, wanted {list(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if own[name].shape != weights[name].shape
    ]
    if faults:
        raise ValueError(f"{path}: {len(faults)} weights don't fit; the first: {min(faults)}.")
    model.load_state_dict(weights)


def replaced(name: str, pieces: dict[str, str]) -> str:
    """The name with its beginning exchanged; as it is if no piece fits."""
    for old, new in pieces.items():
        if name == old or name.startswith(old + "."):
            return new + name[len(old) :]
    return name


def inverted(pieces: dict[str, str]) -> dict[str, str]:
    """The way back."""
    return {new: old for old, new in pieces.items()}
