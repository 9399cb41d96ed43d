"""Two implementations measured in one run: times in turn, memory in processes of their own."""

import multiprocessing
import os
import queue
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def differ(name: str, ours: Tensor, theirs: Tensor, limit: float = 2e-5) -> None:
    """Print the largest difference and the largest value.

    Raises:
        ValueError: the difference is above the limit.
    """
    ours, theirs = ours.detach().reshape(-1), theirs.detach().reshape(-1)
    difference = (ours - theirs).abs().max().item()
    print(f"{name:<36}{difference:.1e} of {theirs.abs().max():.3g}")
    if not difference <= limit:
        raise ValueError(f"{name} differ by {difference:.1e}, more than {limit:g}.")


def time_both(
    steps: dict[str, Callable[[], None]], rounds: int, warm_up: int = 1
) -> dict[str, float]:
    """Median seconds of each, one after the other in every round, after some for warming up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + warm_up):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warm_up:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(own) for name, own in times.items()}


def gpu_memory(steps: dict[str, Callable[[], None]]) -> dict[str, float]:
    """MiB that each adds at its peak to what lies on the GPU before it."""
    found = {}
    for name, step in steps.items():
        step()  # makes what stays, as the optimizer's state
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        found[name] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return found


def cpu_memory(target: Callable[..., None], kinds: list[str], *arguments: Any) -> dict[str, float]:
    """MiB that `target(kind, answer, *arguments)` measures, each kind in a fresh process.

    Memory that is freed goes back at once there, so that what is measured is what is in use, and
    not what the allocator keeps, which changes from run to run.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    context = multiprocessing.get_context("spawn")
    found = {}
    for kind in kinds:
        answer = context.Queue()
        process = context.Process(target=target, args=(kind, answer, *arguments))
        process.start()
        found[kind] = answered(answer, process)
        process.join()
    return found


def answered(answer: Any, process: Any) -> float:
    """What a process puts into its queue.

    Raises:
        ValueError: it ended without.
    """
    while True:
        try:
            return answer.get(timeout=1)
        except queue.Empty:
            if process.exitcode:
                raise ValueError(f"The measuring process ended with {process.exitcode}.") from None


def memory_added(work: Callable[[], None]) -> float:
    """MiB that a piece of work adds to this process at its peak (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def status(name: str) -> float:
    """A figure of this process from /proc, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))
