"""A writer that may fail without stopping the run."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from src.logger.base import Writer

logger = logging.getLogger(__name__)

MAX_FAILURES = 20  # in a row, after which the tracker is left alone
SECONDS_BETWEEN_WARNINGS = 60.0


class SafeWriter:
    """Passes everything on to a writer, and turns its errors into warnings.

    Args:
        make: makes the writer; if that fails, nothing is shown and the run goes on.
    """

    def __init__(self, make: Callable[[], Writer]):
        self.failures = 0
        self.warned_at = -SECONDS_BETWEEN_WARNINGS
        self.writer: Writer | None = None
        self.kept_state: dict[str, str] = {}
        try:
            self.writer = make()
        except Exception as error:  # a tracker may raise anything
            self.warn("start", error)

    def call(self, method: str, *arguments) -> object:
        """Call a method of the writer; None if it fails."""
        if self.writer is None or self.failures >= MAX_FAILURES:
            return None
        try:
            result = getattr(self.writer, method)(*arguments)
        except Exception as error:  # a tracker may raise anything
            self.failures += 1
            self.warn(method, error)
            return None
        self.failures = 0
        return result

    def warn(self, method: str, error: Exception) -> None:
        """One warning a minute at most."""
        if time.monotonic() - self.warned_at >= SECONDS_BETWEEN_WARNINGS:
            self.warned_at = time.monotonic()
            name = type(self.writer).__name__ if self.writer else "the writer"
            logger.warning("%s failed in %s, training goes on: %s", name, method, error)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Figures at a step, by name."""
        self.call("scalars", values, step)

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Sound [T] in [-1, 1]."""
        self.call("audio", name, audio, sample_rate, step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture, uint8 [height, width, 3]."""
        self.call("image", name, image, step)

    def table(self, name: str, columns: list[str], rows: list[list], step: int) -> None:
        """A table."""
        self.call("table", name, columns, rows, step)

    def checkpoint(self, folder: Path, name: str) -> None:
        """The files of a checkpoint's weights."""
        self.call("checkpoint", folder, name)

    def state(self) -> dict[str, str]:
        """What a resumed run needs; the last that was known, if the tracker fails."""
        found = self.call("state")
        if isinstance(found, dict):
            self.kept_state = found
        return self.kept_state

    def close(self) -> None:
        """Send what is left."""
        self.call("close")
