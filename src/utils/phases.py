"""Named phases of a training step, for profiles and for the time that each of them takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import record_function

PHASES = ("data", "transforms", "forward", "loss", "backward", "optimizer", "logging")


class PhaseClock:
    """Sums the time of each phase inside of its `with` block.

    A GPU is synchronised before and after each phase, so that its work counts where it was asked
    for; this makes steps slower.

    Attributes:
        seconds: by phase.
    """

    active: "PhaseClock | None" = None

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)

    def __enter__(self) -> "PhaseClock":
        PhaseClock.active = self
        return self

    def __exit__(self, *_: object) -> None:
        PhaseClock.active = None


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Name what the block does in profiles of torch, and add its time to the active clock."""
    clock = PhaseClock.active
    with record_function(name):
        if clock is None:
            yield
            return
        start = synchronised_time()
        yield
        clock.seconds[name] += synchronised_time() - start


def synchronised_time() -> float:
    """Seconds of a clock, when a GPU has done what it was asked for."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
