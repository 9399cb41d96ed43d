"""Comet. The key comes from the environment: COMET_API_KEY."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.logger.base import Writer


class CometMLWriter(Writer):
    """An experiment of Comet.

    Args:
        run_dir, config, state: as for every writer.
        project, workspace: where the experiment belongs.
        mode: online, or offline to write into the run's folder and `comet upload` later.

    Raises:
        ValueError: another mode.
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
        if mode not in ("online", "offline"):
            raise ValueError(f"writer.mode: '{mode}' is neither online nor offline.")
        if mode == "offline":  # nor shall its own fault reports look for the net
            os.environ.setdefault("COMET_INTERNAL_SENTRY_DSN", "")
        import comet_ml

        self.experiment = comet_ml.start(
            workspace=workspace,
            project_name=project,
            online=mode == "online",
            mode="get" if state else "create",
            experiment_key=state["key"] if state else None,
            experiment_config=comet_ml.ExperimentConfig(
                offline_directory=str(new_folder(run_dir / "comet")),
                name=run_dir.name,
                log_code=False,
                log_git_metadata=False,
                log_git_patch=False,
                auto_output_logging="simple",
            ),
        )
        self.experiment.log_parameters(config)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Figures at a step, by name."""
        self.experiment.log_metrics(values, step=step)

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Sound [T] in [-1, 1]."""
        samples = audio.cpu().numpy()
        self.experiment.log_audio(samples, sample_rate, file_name=f"{name}.wav", step=step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture, uint8 [height, width, 3]."""
        self.experiment.log_image(image, name=name, step=step)

    def table(self, name: str, columns: list[str], rows: list[list], step: int) -> None:
        """A table, as an asset in CSV."""
        self.experiment.log_table(f"{name}_{step}.csv", tabular_data=rows, headers=columns)

    def checkpoint(self, folder: Path, name: str) -> None:
        """The weights, as a model."""
        self.experiment.log_model(name, str(folder / "model.safetensors"))

    def state(self) -> dict[str, str]:
        """The key of the experiment."""
        return {"key": self.experiment.get_key()}

    def close(self) -> None:
        """Send what is left."""
        self.experiment.end()


def new_folder(root: Path) -> Path:
    """A folder for one session: a resumed one would write over the archive of the first."""
    root.mkdir(exist_ok=True)
    return root / f"session_{len(list(root.iterdir())) + 1}"
