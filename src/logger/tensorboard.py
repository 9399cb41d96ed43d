"""TensorBoard: no account, nothing online. Look with: tensorboard --logdir runs"""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.logger.base import Writer


class TensorBoardWriter(Writer):
    """Event files in the run's folder, `tensorboard/`."""

    def __init__(self, run_dir: Path, config: dict[str, Any], state: dict | None = None):
        from torch.utils.tensorboard import SummaryWriter

        super().__init__(run_dir, config, state)
        self.events = SummaryWriter(str(run_dir / "tensorboard"))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Figures at a step, by name."""
        for name, value in values.items():
            self.events.add_scalar(name, value, step)

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Sound [T] in [-1, 1]."""
        self.events.add_audio(name, audio.unsqueeze(0).clamp(-1, 1), step, sample_rate)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture, uint8 [height, width, 3]."""
        self.events.add_image(name, image, step, dataformats="HWC")

    def table(self, name: str, columns: list[str], rows: list[list], step: int) -> None:
        """A table, as text in Markdown."""
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)
        self.events.add_text(name, text, step)

    def close(self) -> None:
        """Write what is left."""
        self.events.close()


def escape(cell: object) -> str:
    """A cell that doesn't break the table."""
    return str(cell).replace("|", "\\|").replace("\n", " ")
