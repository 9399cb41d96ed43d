"""Measures implementations beside each other: alternately, with the spread of their ratios."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch

from scripts.side_by_side import cpu_memory, gpu_memory, time_rounds
from src.utils.flops import matrix_rate

OURS = "Triphone"
Step = Callable[[], Any]


@dataclass(frozen=True)
class Options:
    """What all benchmarks take from the command line.

    Attributes:
        device: `cpu` or `cuda`.
        bf16: autocast to bfloat16 where models are run.
        threads: of the CPU.
        rounds: timed calls of each implementation.
        quick: tiny sizes, to see that everything runs.
    """

    device: str = "cpu"
    bf16: bool = False
    threads: int = 2
    rounds: int = 3
    quick: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix products."""
        return torch.bfloat16 if self.bf16 else torch.float32

    def autocast(self) -> torch.autocast:
        """Context of a forward pass."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)


@dataclass
class Case:
    """One row: the same work by ours and by others.

    Attributes:
        name: of the row.
        steps: implementation -> function that does the work once; ours is the first one.
        note: of what the row doesn't show, e.g. which project isn't installed.
        memory: function that measures the memory of an implementation in a new process, its
            names of the implementations in the order of `steps`, and further arguments, see
            `side_by_side.cpu_memory`; None: not measured on a CPU.
    """

    name: str
    steps: dict[str, Step]
    note: str = ""
    memory: tuple[Callable[..., None], list[str], tuple[Any, ...]] | None = None


@dataclass
class Row:
    """What was measured.

    Attributes:
        name: of the row.
        seconds: implementation -> each round.
        rates: floating-point operations per second of a large matrix product before each round.
        memory_mib: implementation -> memory that it adds.
        note: of the case.
    """

    name: str
    seconds: dict[str, list[float]]
    rates: list[float]
    memory_mib: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def ratios(self, other: str) -> list[float]:
        """Time of ours relative to another one's, in each round."""
        return [a / b for a, b in zip(self.seconds[OURS], self.seconds[other], strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: medians, the spread of ratios, and all that was measured."""
        others = [name for name in self.seconds if name != OURS]
        return {
            "name": self.name,
            "seconds": {name: statistics.median(own) for name, own in self.seconds.items()},
            "ratios": {name: spread(self.ratios(name)) for name in others},
            "matrix_gflops": spread([rate / 1e9 for rate in self.rates]),
            "memory_mib": self.memory_mib,
            "note": self.note,
            "rounds": self.seconds,
        }

    def as_lines(self) -> list[list[str]]:
        """A line of a table for each other implementation, or one of ours alone."""
        mib = self.memory_mib
        ours = f"{statistics.median(self.seconds[OURS]):.3g} s"
        rate = f"{statistics.median(self.rates) / 1e9:.0f}"
        memory = f"{mib[OURS]:.0f} MiB" if OURS in mib else ""
        lines = []
        for other in [name for name in self.seconds if name != OURS]:
            ratio = spread(self.ratios(other))
            shown = f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
            theirs = f"{statistics.median(self.seconds[other]):.3g} s"
            beside = f"{memory}, {mib[other]:.0f} MiB" if other in mib else memory
            lines.append([self.name, ours, f"{other}: {theirs}", shown, beside, rate])
        return lines or [[self.name, ours, self.note, "", memory, rate]]


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest value."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def measure(case: Case, options: Options) -> Row:
    """Time a case, all implementations in turn in each round, and measure its memory."""
    rates: list[float] = []

    def rate() -> None:
        device = torch.device(options.device)
        rates.append(matrix_rate.__wrapped__(device, options.dtype))

    seconds = time_rounds(case.steps, options.rounds, before=rate)
    row = Row(case.name, seconds, rates, note=case.note)
    if options.device == "cuda":
        row.memory_mib = gpu_memory(case.steps)
    elif case.memory is not None:
        target, kinds, arguments = case.memory
        added = cpu_memory(target, kinds, *arguments)
        row.memory_mib = dict(zip(case.steps, added.values(), strict=True))
    return row


def installed(module: str) -> bool:
    """Whether a package is installed."""
    return find_spec(module) is not None


def missing(project: str) -> str:
    """The note of a row that has ours alone."""
    return f"{project} is not installed"
