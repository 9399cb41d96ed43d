"""Signals that end a program as a flag that training and evaluation look at between batches."""

import logging
import os
import signal
import time
from types import FrameType, TracebackType

import torch
from accelerate import Accelerator

from src.utils.entry import SIGNALS, is_bad_input, is_lost_connection, sentence

logger = logging.getLogger(__name__)

RELAYED = 0.5  # seconds in which a launcher may pass on a signal that reached this process already


class Stopped(Exception):
    """A signal came; training saves what it can and ends."""


class FailedAfterSignal(SystemExit):
    """An error came after a signal, which other processes may not know of."""


class StopSignal:
    """Records the first signal; a second one acts at once, as without this class.

    An error after a signal, such as data or processes that are gone on machines that are being
    shut down, is logged, and the program still ends with the exit code of the signal: what is
    started again after a signal, such as a job of Slurm, goes on from the last checkpoint.

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

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether a signal came to any process, in all of them alike; all must call this.

        Afterwards `number` is that of this signal. One that comes during the call is kept.
        """
        number = self.number
        if accelerator.num_processes > 1:
            flag = torch.tensor([number], device=accelerator.device)
            number = int(accelerator.gather(flag).max())
        if number:
            self.number = number
        return number > 0

    def restore(self) -> None:
        """Put the earlier handlers back."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.restore()
        if self.number and isinstance(error, Exception):
            known = is_bad_input(error) or is_lost_connection(error)
            name, reason = signal.Signals(self.number).name, sentence(error).rstrip(".")
            told = f"{reason}. Stopped by {name} before that."
            logger.error(told, exc_info=None if known else error)
            raise FailedAfterSignal(128 + self.number) from None
