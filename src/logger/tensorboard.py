"""TensorBoard: no account and no network needed. View runs with: tensorboard --logdir runs"""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.logger.base import Writer, import_tracker


class TensorBoardWriter(Writer):
    """Writes TensorBoard event files to the folder `tensorboard` of the run.

    Args:
        run_dir: the run's folder.
        config: not used.
        state: not used; a resumed run adds event files to the same folder.

    Raises:
        ValueError: tensorboard is not installed.
    """

    def __init__(self, run_dir: Path, config: dict[str, Any], state: dict | None = None):
        super().__init__(run_dir, config, state)
        module = import_tracker("torch.utils.tensorboard")
        self.events = module.SummaryWriter(str(run_dir / "tensorboard"))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write metrics by name at a step."""
        for name, value in values.items():
            self.events.add_scalar(name, value, step)

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Write audio [T] in [-1, 1] at a sample rate in Hz."""
        self.events.add_audio(name, audio.unsqueeze(0).clamp(-1, 1), step, sample_rate)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image, uint8 [height, width, 3]."""
        self.events.add_image(name, image, step, dataformats="HWC")

    def table(self, name: str, columns: list[str], rows: list[list], step: int) -> None:
        """Write a table as Markdown text."""
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)
        self.events.add_text(name, text, step)

    def close(self) -> None:
        """Close the event files; all data is on disk when this returns."""
        self.events.close()


def escape(cell: object) -> str:
    """Text of a cell without characters that would break a Markdown table."""
    return str(cell).replace("|", "\\|").replace("\n", " ")
