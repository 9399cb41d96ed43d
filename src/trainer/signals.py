"""Signals that end a program as a flag that training and evaluation look at between batches."""

import os
import signal
import time
from types import FrameType

from src.utils.entry import SIGNALS

RELAYED = 0.5  # seconds in which a launcher may pass on a signal that reached this process already


class Stopped(Exception):
    """A signal came; training saves what it can and ends."""


class StopSignal:
    """Records the first signal; a second one acts at once, as without this class.

    Attributes:
        number: of the first signal; 0: none came.
    """

    def __init__(self) -> None:
        self.number = 0
        self.came = 0.0
        self.previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        for number in SIGNALS:
            self.previous[number] = signal.signal(number, self.record)
        return self

    def record(self, number: int, frame: FrameType | None) -> None:
        """Called by Python when a signal comes."""
        now = time.monotonic()
        if self.came == 0.0:
            self.number, self.came = number, now
        elif now - self.came > RELAYED:
            self.restore()
            os.kill(os.getpid(), number)

    def restore(self) -> None:
        """Put the earlier handlers back."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __exit__(self, *_) -> None:
        self.restore()
