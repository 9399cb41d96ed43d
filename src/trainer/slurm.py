"""Jobs of Slurm: the processes that srun starts, and going on after a preemption."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from src.trainer.signals import FailedAfterSignal
from src.utils.checkpoint import find_checkpoint
from src.utils.entry import SIGNALS
from src.utils.options import check_choice

NAMES = tuple(number.name for number in SIGNALS)
PORTS = 15000, 20000  # the first port, and how many there are
STEP = 101  # ports from one step of a job to the next
# Ends of the names of srun's variables, in the order of use.
TOLD = ("NODEID", "PROCID", "LOCALID", "STEP_TASKS_PER_NODE", "STEP_NODELIST", "JOB_ID")


def adopt_processes() -> None:
    """Set the variables of torchrun in a process that srun started as one of several.

    Raises:
        ValueError: srun's own variables are missing, as in a container that doesn't pass them on.
    """
    variables = os.environ
    count = variables.get("SLURM_STEP_NUM_TASKS", "1")
    if "WORLD_SIZE" in variables or count == "1":
        return
    missing = [f"SLURM_{name}" for name in TOLD if f"SLURM_{name}" not in variables]
    if missing:
        raise ValueError(f"srun started {count} processes, but {', '.join(missing)} isn't set.")
    node, rank, local_rank, counts, nodes, number = (variables[f"SLURM_{name}"] for name in TOLD)
    first, ports = PORTS
    step = int(variables.get("SLURM_STEP_ID", "0"))  # others of the job may run at the same time
    own = {
        "RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_RANK": local_rank,
        "LOCAL_WORLD_SIZE": str(tasks_per_node(counts)[int(node)]),
        "MASTER_ADDR": first_host(nodes),
        "MASTER_PORT": str(first + (int(number) + STEP * step) % ports),
    }
    for name, value in own.items():
        variables.setdefault(name, value)


def tasks_per_node(value: str) -> list[int]:
    """Numbers of processes of all nodes from Slurm's notation: `2(x3),1` is [2, 2, 2, 1]."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", value)
    return [int(count) for count, times in found for _ in range(int(times or 1))]


def first_host(nodes: str) -> str:
    """The first host of a list in Slurm's notation, such as `node[3-5,8]`."""
    if not re.search(r"[\[,]", nodes):
        return nodes
    return scontrol("show", "hostnames", nodes).split()[0]


def scontrol(*arguments: str) -> str:
    """What Slurm's command prints.

    Raises:
        OSError: it is missing, or fails.
    """
    done = subprocess.run(
        ["scontrol", *arguments], capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise OSError(f"scontrol {' '.join(arguments)} failed: {reason}")
    return done.stdout


def job() -> str | None:
    """The number of the job of Slurm that this process belongs to."""
    return os.environ.get("SLURM_JOB_ID")


def continue_interrupted(config: DictConfig) -> bool:
    """Let a run of a job that may be requeued go on where the job was interrupted.

    Args:
        config: of an experiment; without `run_dir` it gets one that is named after the job.

    Returns:
        Whether there is a checkpoint to go on from; `trainer.resume_from` is then set.
    """
    for name in config.get("requeue") or ():
        check_choice("requeue", name, NAMES)
    if not (config.get("requeue") and job()) or config.trainer.get("resume_from"):
        return False
    if not config.run_dir:
        config.run_dir = str(Path(config.runs) / config.name / f"slurm_{job()}")
    if os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
        return False
    try:
        find_checkpoint(Path(config.run_dir) / "last")
    except FileNotFoundError:  # interrupted before its first one
        return False
    config.trainer.resume_from = config.run_dir
    return True


@contextmanager
def requeued_after(names: Sequence[str] | None) -> Iterator[None]:
    """Context of a program, whose job of Slurm is requeued if one of some signals ends it.

    The main process requeues it, or one that an error ended. The others end with 0, since
    `srun --kill-on-bad-exit=1` would kill the main one before it has done so.

    Args:
        names: of the signals.
    """
    try:
        yield
    except SystemExit as error:
        codes = [128 + number for number in SIGNALS if number.name in (names or ())]
        main = os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
        number = job()
        if not number or error.code not in codes:
            raise
        if not main and not isinstance(error, FailedAfterSignal):
            raise SystemExit(0) from None
        try:
            scontrol("requeue", number)
            print(f"Job {number} is requeued and will go on.", file=sys.stderr)
        except OSError as failure:
            print(f"error: job {number} is not requeued: {failure}", file=sys.stderr)
        raise
