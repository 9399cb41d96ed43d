"""Submodules by the names that a config gives."""

from torch import nn


def submodule(model: nn.Module, name: str, key: str) -> nn.Module:
    """The submodule that a config names.

    Args:
        model: with the submodule.
        name: of the submodule, e.g. `encoder.layers`.
        key: of the config, for error messages.

    Raises:
        ValueError: the model has no such submodule.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        parts = ", ".join(child for child, _ in model.named_children())
        raise ValueError(f"config, {key}: the model has no '{name}', but {parts}.") from None


def dotted_name(kind: type) -> str:
    """Name of a class with its module, as `_target_` of a config."""
    return f"{kind.__module__}.{kind.__qualname__}"
