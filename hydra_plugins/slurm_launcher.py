"""Hydra's launcher of sweeps as jobs of Slurm; Hydra finds it here."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

from src.trainer.sweep import record_failure

ROOT = Path(__file__).parents[1]


class SlurmLauncher(Launcher):
    """Submits each job of a sweep by submitit, and waits for all.

    Args:
        folder: for submitit's scripts and logs.
        parameters: of submitit's executor; null entries are left out.
    """

    def __init__(self, folder: str, parameters: DictConfig):
        self.folder, self.parameters = folder, parameters

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Called by hydra before `launch`."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list:
        """Submit the jobs; returns what they returned.

        Args:
            job_overrides: of each job.
            initial_job_idx: number of the first one.

        Raises:
            ValueError: submitit is not installed.
        """
        try:
            import submitit
        except ImportError:
            raise ValueError(
                "hydra/launcher=submitit_slurm: needs pip install -r requirements-cluster.txt."
            ) from None
        chosen = OmegaConf.to_container(OmegaConf.create(self.parameters), resolve=True)
        given = {key: value for key, value in chosen.items() if value is not None}  # type: ignore
        executor = submitit.AutoExecutor(folder=self.folder, cluster="slurm")
        executor.update_parameters(
            name=self.config.hydra.job.name,
            slurm_setup=[f'export PYTHONPATH="{ROOT}:$PYTHONPATH"'],
            slurm_srun_args=["--kill-on-bad-exit=1"],
            **given,
        )
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        state = Singleton.get_state()
        jobs = executor.map_array(
            self.run_one, map(list, job_overrides), numbers, [state] * len(numbers)
        )
        return [
            self.result(job, number, list(overrides))
            for job, number, overrides in zip(jobs, numbers, job_overrides, strict=True)
        ]

    def result(self, job: Any, number: int, overrides: list[str]) -> JobReturn:
        """What a job returned, for which this waits; one that was killed counts as failed.

        Args:
            job: of submitit.
            number: of the job in the sweep.
            overrides: of the job.
        """
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            return job.results()[0]
        except UncompletedJobError as error:
            if record_failure(Path(self.config.hydra.sweep.dir), number, overrides):
                lines = str(error).splitlines()
                if not isinstance(error, FailedJobError):  # else they end with its traceback
                    lines = [" ".join(lines[:2])]
                told = "\n".join(lines)
                print(f"error: job {number} of the sweep: {told}", file=sys.stderr)
            return JobReturn(status=JobStatus.COMPLETED)

    def run_one(self, overrides: list[str], number: int, state: Any) -> JobReturn:
        """In the job: run what hydra's own launcher would run."""
        Singleton.set_state(state)
        setup_globals()
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        return run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
