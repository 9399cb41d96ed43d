"""SIGINT and SIGTERM as a flag that the training loop looks at between steps."""

import signal
from types import FrameType


class StopSignal:
    """Notes the first signal; a second one acts at once, as without us."""

    def __init__(self) -> None:
        self.number = 0
        self.previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self.note)
        return self

    def note(self, number: int, frame: FrameType | None) -> None:
        """Called by Python when a signal comes."""
        self.number = number
        self.restore()

    def restore(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __exit__(self, *_) -> None:
        self.restore()
