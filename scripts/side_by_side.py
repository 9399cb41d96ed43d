"""Helpers for comparing two implementations: differences of tensors, time and memory."""

import multiprocessing
import os
import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def differ(name: str, ours: Tensor, theirs: Tensor, limit: float = 2e-5) -> None:
    """Print the largest absolute difference, and the largest absolute value of `theirs`.

    Args:
        name: of the tensors, for the output.
        ours, theirs: tensors with the same number of elements.
        limit: largest accepted difference.

    Raises:
        ValueError: the difference exceeds the limit.
    """
    ours, theirs = ours.detach().reshape(-1), theirs.detach().reshape(-1)
    difference = (ours - theirs).abs().max().item()
    print(f"{name:<36}{difference:.1e} of {theirs.abs().max():.3g}")
    if not difference <= limit:
        raise ValueError(f"{name} differ by {difference:.1e}, more than {limit:g}.")


def time_rounds(
    steps: dict[str, Callable[[], Any]],
    rounds: int,
    warm_up: int = 1,
    before: Callable[[], Any] = lambda: None,
) -> dict[str, list[float]]:
    """Times of several functions, called alternately so that all see the same machine load.

    Args:
        steps: functions by name.
        rounds: number of timed calls of each function.
        warm_up: number of calls before, which are not timed.
        before: called before each timed round.

    Returns:
        Seconds of each round by name.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(rounds + warm_up):
        if round_ >= warm_up:
            before()
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_ >= warm_up:
                times[name].append(time.perf_counter() - start)
    return times


def gpu_memory(steps: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Peak GPU memory in MiB that each function allocates on top of what is already allocated.

    Args:
        steps: functions by name; each is called twice, and the second call is measured.
    """
    added = {}
    for name, step in steps.items():
        step()  # allocates persistent memory, such as optimizer states
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        added[name] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return added


def cpu_memory(target: Callable[..., None], kinds: list[str], *arguments: Any) -> dict[str, float]:
    """Memory in MiB as measured by a function in a new process for each implementation.

    In these processes malloc returns freed memory to the system immediately, so that the measured
    memory does not include what the allocator caches.

    Args:
        target: called as `target(kind, answer, *arguments)`; puts MiB into the queue `answer`.
        kinds: names of the implementations.
        arguments: further arguments of `target`.

    Returns:
        MiB by name.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    context = multiprocessing.get_context("spawn")
    added = {}
    for kind in kinds:
        answer = context.Queue()
        process = context.Process(target=target, args=(kind, answer, *arguments))
        process.start()
        added[kind] = wait_for(answer, process)
        process.join()
    return added


def wait_for(answer: Any, process: Any) -> float:
    """The number that a process puts into a queue.

    Raises:
        ValueError: the process ended without a result.
    """
    while True:
        ended = process.exitcode is not None  # before the last look for an answer
        try:
            return answer.get(timeout=1)
        except queue.Empty:
            if ended:
                raise ValueError(
                    f"The process that measures memory ended with code {process.exitcode}."
                ) from None


def memory_added(work: Callable[[], None]) -> float:
    """Peak memory in MiB that a function adds to this process (Linux only).

    Args:
        work: the function; called once.
    """
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = read_status("VmRSS")
    work()
    return read_status("VmHWM") - before


def read_status(name: str) -> float:
    """A memory size of this process from /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))
