"""Starting a model from the weights of another run or project."""

import logging
from collections import Counter
from pathlib import Path

from torch import Tensor, nn

from src.interop import nemo
from src.trainer.checkpoint import WEIGHTS, existing, load_weights, misfits, read_tensors

logger = logging.getLogger(__name__)


def load_pretrained(
    model: nn.Module, path: Path, part: str | None = None, strict: bool = True
) -> None:
    """Start a model, or a part of it, from weights; logs what was loaded and what wasn't.

    Args:
        model: gets the weights.
        path: a run's folder (its best), a checkpoint, a file of weights or a .nemo file.
        part: name of the submodule to load, e.g. `encoder`, called the same in both; None: all.
        strict: every weight of the part must be there and fit, and none may be left over.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: the weights are of another model.
    """
    weights = read_pretrained(path)
    prefix = f"{part}." if part else ""
    rest = [name for name in weights if not name.startswith(prefix)]
    weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    target = model.get_submodule(part) if part else model
    if not weights:
        raise ValueError(f"{path}: no weight is called {prefix}*, only {summary(rest)}.")
    if strict:
        load_weights(target, weights, path)
    else:
        weights = load_what_fits(target, weights, path)
    fresh = [name for name in model.state_dict() if name.removeprefix(prefix) not in weights]
    logger.info(
        "%s: loaded %d weights%s; left in the file: %s; not from the file: %s.",
        path,
        len(weights),
        f" of {part}" if part else "",
        summary(rest),
        summary(fresh),
    )


def read_pretrained(path: Path) -> dict[str, Tensor]:
    """Weights under our names, whatever holds them."""
    if path.suffix == ".nemo":
        weights = nemo.read_weights(path)
        return {k: v for k, v in weights.items() if not k.startswith("preprocessor.")}
    if path.is_dir():
        path = existing(path if (path / WEIGHTS).exists() else path / "best") / WEIGHTS
    return read_tensors(path)


def load_what_fits(model: nn.Module, weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Load the weights whose name and shape fit, warn of the others, and return the former."""
    own = model.state_dict()
    for fault in misfits(own, weights):
        logger.warning("%s: %s", path, fault)
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(fitting, strict=False)
    return fitting


def summary(names: list[str]) -> str:
    """Names counted by their first part: `decoder (2), quantizer (2)`."""
    counted = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{name} ({count})" for name, count in counted.items()) or "nothing"
