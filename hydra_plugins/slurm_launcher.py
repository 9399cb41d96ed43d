"""Hydra's launcher of sweeps as jobs of Slurm; Hydra finds it here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

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
        return [job.results()[0] for job in jobs]

    def run_one(self, overrides: list[str], number: int, state: Any) -> JobReturn:
        """In the job: run what hydra's own launcher would run."""
        Singleton.set_state(state)
        setup_globals()
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        HydraConfig.instance().set_config(config)
        return run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
