"""A writer whose errors do not stop training."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from src.logger.base import Writer

logger = logging.getLogger(__name__)

MAX_FAILURES = 20  # consecutive failures after which the tracker is no longer called
SECONDS_BETWEEN_WARNINGS = 60.0


class SafeWriter:
    """Forwards all calls to a writer and turns its exceptions into warnings.

    As a context it closes the writer at its end, as failed after an exception.

    Args:
        make: creates the writer. If it fails, training continues without a tracker, except after a
            ValueError, which is about a value of the config.
        state: of the writer in the run that is resumed, which is kept while there is no newer one.

    Raises:
        ValueError: an option of the writer is not allowed.
    """

    def __init__(self, make: Callable[[], Writer], state: dict[str, str] | None = None):
        self.failures = 0
        self.warned_at = -SECONDS_BETWEEN_WARNINGS
        self.writer: Writer | None = None
        self.kept_state = state or {}
        try:
            self.writer = make()
        except ValueError:
            raise
        except Exception as error:  # a tracker may raise anything
            self.warn("start", error)

    def call(self, method: str, *arguments) -> object:
        """Call a method of the writer; returns its result, or None if it fails."""
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
        """Log a warning, at most one per minute."""
        if time.monotonic() - self.warned_at >= SECONDS_BETWEEN_WARNINGS:
            self.warned_at = time.monotonic()
            name = type(self.writer).__name__ if self.writer else "the writer"
            logger.warning("%s failed in %s, training continues: %s", name, method, error)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write metrics by name at a step."""
        self.call("scalars", values, step)

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Write audio [T] in [-1, 1] at a sample rate in Hz."""
        self.call("audio", name, audio, sample_rate, step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image, uint8 [height, width, 3]."""
        self.call("image", name, image, step)

    def table(self, name: str, columns: list[str], rows: list[list], step: int) -> None:
        """Write a table."""
        self.call("table", name, columns, rows, step)

    def checkpoint(self, folder: Path, name: str) -> None:
        """Upload the weights of a checkpoint folder under a name."""
        self.call("checkpoint", folder, name)

    def state(self) -> dict[str, str]:
        """What is needed to resume the tracker's run; the last known state if the tracker fails."""
        state = self.call("state")
        if isinstance(state, dict):
            self.kept_state = state
        return self.kept_state

    def close(self, failed: bool = False) -> None:
        """Finish, once, however often the tracker has failed; all data is then written or sent.

        Args:
            failed: whether the run has.
        """
        self.failures = 0
        if self.writer is not None:
            self.writer.failed = failed
        self.call("close")
        self.writer = None

    def __enter__(self) -> "SafeWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)
