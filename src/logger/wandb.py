"""Weights & Biases. The key comes from the environment: WANDB_API_KEY."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.logger.base import Writer


class WandBWriter(Writer):
    """A run of Weights & Biases.

    Args:
        run_dir, config, state: as for every writer.
        project, entity: where the run belongs.
        mode: online, or offline to write into the run's folder and `wandb sync` later.
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
        import wandb

        super().__init__(run_dir, config, state)
        self.wandb = wandb
        self.run = wandb.init(
            project=project,
            entity=entity,
            name=run_dir.name,
            dir=str(run_dir),
            config=config,
            mode=mode,  # type: ignore[arg-type]
            id=state["id"] if state else None,
            resume="allow" if state else None,
        )

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Figures at a step, by name."""
        self.run.log({**values, "step": step})

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Sound [T] in [-1, 1]."""
        sound = self.wandb.Audio(audio.cpu().numpy(), sample_rate=sample_rate)
        self.run.log({name: sound, "step": step})

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture, uint8 [height, width, 3]."""
        self.run.log({name: self.wandb.Image(image), "step": step})

    def table(self, name: str, columns: list[str], rows: list[list], step: int) -> None:
        """A table."""
        self.run.log({name: self.wandb.Table(columns=[*columns], data=rows), "step": step})

    def checkpoint(self, folder: Path, name: str) -> None:
        """The weights, as an artifact."""
        artifact = self.wandb.Artifact(f"{self.run.id}-{name}", type="model")
        artifact.add_file(str(folder / "model.safetensors"))
        self.run.log_artifact(artifact)

    def state(self) -> dict[str, str]:
        """The id of the run."""
        return {"id": self.run.id}

    def close(self) -> None:
        """Send what is left."""
        self.run.finish()
