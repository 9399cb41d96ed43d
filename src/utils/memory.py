"""How much memory this process uses, and how much it may use."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import torch

STATUS = Path("/proc/self/status")
CGROUPS = Path("/sys/fs/cgroup")
# Of version 1 and 2: the limit, the usage, and the entry of memory.stat with cached files.
CGROUP_FILES = (
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ("memory.max", "memory.current", "inactive_file"),
)


def peak_memory(device: torch.device) -> int:
    """Bytes that this process used at most: of a GPU for tensors, or of the CPU's memory.

    On Linux, the CPU's peak is that since `reset_peak`.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():  # the peak of getrusage begins with that of the parent process
        lines = STATUS.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return info.peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def reset_peak(device: torch.device) -> None:
    """Let the peak begin with what is in use; on a CPU this needs Linux."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library has no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)  # what malloc caches would be part of the peak
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def memory_limit(device: torch.device) -> int:
    """Bytes that this process may use: what it has, and what the GPU or the machine has free.

    For a CPU, limits of the process's control groups (containers, Slurm) count as well.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device)
    free = min([psutil.virtual_memory().available, *free_of_cgroups()])
    return free + psutil.Process().memory_info().rss


def free_of_cgroups() -> Iterator[int]:
    """Bytes that each control group of this process with a limit has free."""
    membership = Path("/proc/self/cgroup")
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, place = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        own = CGROUPS / controllers / place.lstrip("/")
        # In a container, the files of the group lie at the root.
        for folder in (own, *own.parents):
            if not folder.is_relative_to(CGROUPS):
                break
            for limit, usage, cached in CGROUP_FILES:
                with suppress(OSError, ValueError, KeyError):  # no such file, or no limit
                    stat = dict(
                        s.split() for s in (folder / "memory.stat").read_text().split("\n") if s
                    )
                    used = int((folder / usage).read_text()) - int(stat[cached])
                    yield max(0, int((folder / limit).read_text()) - used)
