"""Sweeps: the jobs of `train.py -m`, each with its own run folder, and one table at the end."""

import csv
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from src.trainer.slurm import adopt_processes
from src.utils.columns import in_columns
from src.utils.entry import run_command
from src.utils.files import write_beside
from src.utils.options import refuse

logger = logging.getLogger(__name__)

TABLE = "sweep.tsv"
Job = dict[str, Any]


def in_sweep() -> bool:
    """Whether this is a job of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def run_job(config: DictConfig, train: Callable[[], dict[str, float]]) -> float | None:
    """Train as a job of a sweep; a job that fails doesn't end the others.

    Its results are written to `<sweep>/job_<number>.json`, since jobs may run on other machines. If
    they are there, from an earlier start of the same sweep, it isn't trained again.

    Args:
        config: of the job; `run_dir` becomes `<sweep>/<number>`.
        train: called without arguments, returns `<evaluation>/<metric>` -> value.

    Returns:
        The best value of `trainer.monitor`, which sweepers that search minimise; None without one.

    Raises:
        ValueError: there are several processes, `run_dir` or a run to be resumed is given, or the
            folder holds another sweep.
        SystemExit: a signal ends the sweep.
    """
    of_cluster = "SUBMITIT_EXECUTOR" in os.environ  # where each job may have several processes
    adopt_processes()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not of_cluster:
        raise ValueError("-m: a sweep runs in a single process, without torchrun or srun.")
    if config.trainer.resume_from:
        refuse("config, trainer.resume_from", config.trainer.resume_from, "null in a sweep")
    if config.fit:
        refuse("config, fit", True, "false in a sweep")
    if config.run_dir:
        refuse("config, run_dir", config.run_dir, "null in a sweep, see hydra.sweep.dir")
    hydra = HydraConfig.get()
    sweep, number = Path(hydra.sweep.dir), hydra.job.num
    config.run_dir = str(sweep / str(number))
    job: Job = {"job": number, "overrides": list(hydra.overrides.task), "run": config.run_dir}
    earlier = finished(sweep, number, job["overrides"])
    if earlier is not None:
        print(f"job {number} of the sweep has finished before: {result_path(sweep, number)}")
        return earlier["values"].get(earlier["monitor"])
    try:
        values = run_command(train)
    except SystemExit as error:
        if error.code != 1:
            raise
        values, job["failed"] = {}, True
    except Exception:  # no bad input, or TRIPHONE_TRACEBACK=1
        logger.exception("job %d of the sweep has failed", number)
        values, job["failed"] = {}, True
    monitor = config.trainer.get("monitor")
    if os.environ.get("RANK", "0") != "0":
        return values.get(monitor)
    with write_beside(result_path(sweep, number)) as path:
        path.write_text(json.dumps(job | {"monitor": monitor, "values": values}) + "\n")
    return values.get(monitor)


def finished(sweep: Path, number: int, overrides: list[str]) -> Job | None:
    """What a job has written in an earlier start of a sweep; None if it didn't, or has failed.

    Args:
        sweep: folder of the sweep.
        number: of the job.
        overrides: of the job now.

    Raises:
        ValueError: it had other overrides.
    """
    path = result_path(sweep, number)
    if not path.exists():
        return None
    job = json.loads(path.read_text())
    if job.get("failed"):
        path.unlink(missing_ok=True)  # so that what the job writes now is known for new
        return None
    if job["overrides"] != overrides:
        told = " ".join(job["overrides"])
        raise ValueError(f"{path}: of another sweep ({told}); name another hydra.sweep.dir.")
    return job


def result_path(sweep: Path, number: int) -> Path:
    """The file of a job's values in the folder of a sweep."""
    return sweep / f"job_{number}.json"


def record_failure(sweep: Path, number: int, overrides: list[str]) -> bool:
    """Record as failed a job that was killed before it could write its values.

    Args:
        sweep: folder of the sweep.
        number: of the job.
        overrides: of the job.

    Returns:
        False: it had written them.
    """
    path = result_path(sweep, number)
    if path.exists():
        return False
    job = {"job": number, "overrides": overrides, "run": str(sweep / str(number)), "failed": True}
    with write_beside(path) as beside:
        beside.write_text(json.dumps(job | {"monitor": None, "values": {}}) + "\n")
    return True


class SweepTable(Callback):
    """Prints and writes the table of a sweep at its end; ends with 1 if a job has failed."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Called by hydra after all jobs."""
        folder = Path(config.hydra.sweep.dir)
        found = folder.glob("job_*.json")
        jobs = [json.loads(path.read_text()) for path in found]
        jobs.sort(key=lambda job: job["job"])
        if not jobs:  # of another program
            return
        write_table(folder / TABLE, jobs)
        print("\n" + table(jobs) + f"\n\nAll values: {folder / TABLE}")
        if any(job.get("failed") for job in jobs):
            raise SystemExit(1)


def table(jobs: list[Job]) -> str:
    """A line for each job: its overrides, the monitored value and its run.

    Args:
        jobs: from `run_job`.
    """
    monitor = next((job["monitor"] for job in jobs if job["monitor"]), "")
    lines = [["job", "overrides", monitor, "run"]]
    for job in jobs:
        value = job["values"].get(job["monitor"])
        shown = "failed" if job.get("failed") else "" if value is None else f"{value:.6g}"
        lines.append([str(job["job"]), " ".join(job["overrides"]), shown, job["run"]])
    return in_columns(lines)


def write_table(path: Path, jobs: list[Job]) -> None:
    """Write a row for each job, with a column for each override and value.

    Args:
        path: of the file, separated by tabs.
        jobs: from `run_job`.
    """
    rows = []
    for job in jobs:
        chosen = dict(override.split("=", 1) for override in job["overrides"] if "=" in override)
        rows.append({"run": job["run"], **chosen, **job["values"]})
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with write_beside(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
