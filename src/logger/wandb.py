"""Weights & Biases. The key is read from the environment variable WANDB_API_KEY."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.logger.base import Writer, check_text, import_tracker, tracker_faults
from src.utils.checkpoint import weight_files
from src.utils.options import check_choice

MODES = ("online", "offline", "disabled")


class WandBWriter(Writer):
    """A run of Weights & Biases.

    Args:
        run_dir: the run's folder; its name becomes the name of the W&B run.
        config: the resolved config.
        state: result of `state()` before the run was stopped, to resume the W&B run.
        project: W&B project.
        entity: W&B user or team; None: the account's default.
        mode: `online`; `offline` writes to the run's folder, to be uploaded with `wandb sync`;
            `disabled` writes nothing.

    Raises:
        ValueError: an option is not allowed, or wandb is not installed.
    """

    def __init__(
        self,
        run_dir: Path,
        config: dict[str, Any],
        state: dict | None = None,
        project: str = "triphone",
        entity: str | None = None,
        mode: str = "online",
    ):
        super().__init__(run_dir, config, state)
        check_choice("config, writer.mode", mode, MODES)
        check_text("config, writer.project", project)
        check_text("config, writer.entity", entity, optional=True)
        self.wandb = import_tracker("wandb")
        run_id = (state or {}).get("id")
        with tracker_faults():
            self.run = self.wandb.init(
                project=project,
                entity=entity,
                name=run_dir.name,
                dir=str(run_dir),
                config=config,
                mode=mode,
                id=run_id,
                resume="allow" if run_id else None,
            )

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write metrics by name at a step."""
        self.run.log({**values, "step": step})

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Write audio [T] in [-1, 1] at a sample rate in Hz."""
        sound = self.wandb.Audio(audio.cpu().numpy(), sample_rate=sample_rate)
        self.run.log({name: sound, "step": step})

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image, uint8 [height, width, 3]."""
        self.run.log({name: self.wandb.Image(image), "step": step})

    def table(self, name: str, columns: list[str], rows: list[list], step: int) -> None:
        """Write a table."""
        self.run.log({name: self.wandb.Table(columns=[*columns], data=rows), "step": step})

    def checkpoint(self, folder: Path, name: str) -> None:
        """Upload the weights of a checkpoint folder as an artifact."""
        artifact = self.wandb.Artifact(f"{self.run.id}-{name}", type="model")
        for path in weight_files(folder):
            artifact.add_file(str(path))
        self.run.log_artifact(artifact)

    def state(self) -> dict[str, str]:
        """The id of the W&B run."""
        return {"id": self.run.id}

    def close(self) -> None:
        """Finish the run; all data is on disk or sent when this returns."""
        self.run.finish(exit_code=int(self.failed))
        # finish() only asks wandb's service process to close the run's transaction log, where
        # the last rows are still buffered, and returns. Only the end of that process, which
        # teardown() waits for, guarantees that they are on disk.
        self.wandb.teardown()
