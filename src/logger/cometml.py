"""Comet. The key is read from the environment variable COMET_API_KEY."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.logger.base import Writer, check_text, import_tracker, tracker_faults
from src.utils.checkpoint import weight_files
from src.utils.options import check_choice


class CometMLWriter(Writer):
    """An experiment of Comet.

    Args:
        run_dir: the run's folder; its name becomes the name of the experiment.
        config: the resolved config.
        state: result of `state()` before the run was stopped, to resume the experiment.
        project: Comet project.
        workspace: Comet workspace; None: the account's default.
        mode: `online`; `offline` writes to the run's folder, to be uploaded with `comet upload`.

    Raises:
        ValueError: an option is not allowed, or comet_ml is not installed.
    """

    def __init__(
        self,
        run_dir: Path,
        config: dict[str, Any],
        state: dict | None = None,
        project: str = "triphone",
        workspace: str | None = None,
        mode: str = "online",
    ):
        super().__init__(run_dir, config, state)
        check_choice("config, writer.mode", mode, ("online", "offline"))
        check_text("config, writer.project", project)
        check_text("config, writer.workspace", workspace, optional=True)
        if mode == "offline":  # Comet's own error reports must not use the network either
            os.environ.setdefault("COMET_INTERNAL_SENTRY_DSN", "")
        comet_ml = import_tracker("comet_ml")
        key = (state or {}).get("key")
        with tracker_faults():
            self.experiment = comet_ml.start(
                workspace=workspace,
                project_name=project,
                online=mode == "online",
                mode="get" if key else "create",
                experiment_key=key,
                experiment_config=comet_ml.ExperimentConfig(
                    offline_directory=str(session_folder(run_dir / "comet")),
                    name=run_dir.name,
                    log_code=False,
                    log_git_metadata=False,
                    log_git_patch=False,
                    auto_output_logging="simple",
                ),
            )
            self.experiment.log_parameters(config)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write metrics by name at a step."""
        self.experiment.log_metrics(values, step=step)

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Write audio [T] in [-1, 1] at a sample rate in Hz."""
        samples = audio.cpu().numpy()
        self.experiment.log_audio(samples, sample_rate, file_name=f"{name}.wav", step=step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image, uint8 [height, width, 3]."""
        self.experiment.log_image(image, name=name, step=step)

    def table(self, name: str, columns: list[str], rows: list[list], step: int) -> None:
        """Write a table as a CSV asset."""
        self.experiment.log_table(f"{name}_{step}.csv", tabular_data=rows, headers=columns)

    def checkpoint(self, folder: Path, name: str) -> None:
        """Upload the weights of a checkpoint folder as a model."""
        for path in weight_files(folder):
            self.experiment.log_model(name, str(path))

    def state(self) -> dict[str, str]:
        """The key of the experiment."""
        return {"key": self.experiment.get_key()}

    def close(self) -> None:
        """Finish the experiment; all data is written or sent when this returns."""
        self.experiment.end()


def session_folder(root: Path) -> Path:
    """A new folder per session: a resumed run must not overwrite the archive of the first."""
    root.mkdir(exist_ok=True)
    return root / f"session_{len(list(root.iterdir())) + 1}"
