"""Base class of writers: metrics, audio, images and tables for an experiment tracker."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from src.utils.options import shown


class Writer:
    """Reports a run to an experiment tracker; this base class reports nothing.

    Args:
        run_dir: the run's folder; its name becomes the name of the tracker's run.
        config: the resolved config.
        state: result of `state()` before the run was stopped, to resume the tracker's run; None
            or empty for a new one.

    Attributes:
        failed: whether an error has ended the run; set before `close` is called.

    Raises:
        ValueError: an option of the config is not allowed. Only these errors stop a run: faults
            of the tracker itself are other exceptions, which `SafeWriter` turns into warnings.
    """

    failed = False

    def __init__(self, run_dir: Path, config: dict[str, Any], state: dict | None = None):
        self.run_dir = run_dir

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write metrics by name at a step."""

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Write audio [T] in [-1, 1] at a sample rate in Hz."""

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image, uint8 [height, width, 3]."""

    def table(self, name: str, columns: list[str], rows: list[list], step: int) -> None:
        """Write a table."""

    def checkpoint(self, folder: Path, name: str) -> None:
        """Upload the weights of a checkpoint folder under a name."""

    def state(self) -> dict[str, str]:
        """What is needed to resume the tracker's run; saved in the checkpoint."""
        return {}

    def close(self) -> None:
        """Finish; all data is written or sent when this returns."""


def import_tracker(name: str) -> ModuleType:
    """The module of an experiment tracker, which is imported only if it is used.

    Raises:
        ValueError: its package is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"config, writer: the package {error.name} is not installed.") from None


def check_text(key: str, value: Any, optional: bool = False) -> None:
    """Check a config value that must be text.

    Args:
        key: of the config, for the message.
        value: of the config.
        optional: whether None is allowed.

    Raises:
        ValueError: the value is not text, or is empty.
    """
    if (optional and value is None) or (isinstance(value, str) and value):
        return
    raise ValueError(f"{key}: {shown(value)}; text{', or null' if optional else ''}.")


@contextmanager
def tracker_faults() -> Iterator[None]:
    """Raise a ValueError of the tracker as RuntimeError: it is not about a value of the config."""
    try:
        yield
    except ValueError as error:
        raise RuntimeError(str(error)) from error
