"""What every batch needs before it is run through the parts of a system."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Batch = dict[str, Any]
BETWEEN_VOICES = " | "  # in the texts of all voices of a mixture


def required_keys(method: Callable) -> list[str]:
    """The keys of a batch that a method names and gives no default."""
    parameters = inspect.signature(method).parameters.values()
    return [
        p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD and p.default is p.empty
    ]


def check_keys(key: str, part: Any, method: Callable, batch: Batch) -> None:
    """Check that a batch has what a part of the system can't do without.

    Args:
        key: of the part in the config.
        part: of the system.
        method: of the part, names the keys that it needs.
        batch: what the method will be called with.

    Raises:
        ValueError: a key is missing.
    """
    missing = [name for name in required_keys(method) if name not in batch]
    if missing:
        raise ValueError(
            f"config, {key}: {type(part).__name__} needs {', '.join(missing)}; the batch has "
            f"{', '.join(batch)}, after the transforms."
        )


def select(batch: Batch, chosen: Tensor) -> Batch:
    """Some items of a batch.

    Args:
        batch: tensors [B, ...] and lists of B entries; anything else is kept.
        chosen: bool [B].
    """
    size, rows = len(chosen), chosen.nonzero()[:, 0].tolist()
    part = dict(batch)
    for key, value in batch.items():
        if isinstance(value, Tensor) and value.dim() and len(value) == size:
            part[key] = value[rows]
        elif isinstance(value, list) and len(value) == size:
            part[key] = [value[row] for row in rows]
    return part


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on the device."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }


def report_skipped(batch: Batch) -> None:
    """Log the files that the dataset skipped."""
    for error in batch["errors"]:
        logger.warning("skipped: %s", error)
