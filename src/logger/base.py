"""What a writer can be told: figures, sounds, pictures, tables."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor


class Writer:
    """Shows a run to a person. This one shows nothing; others do what they can.

    Args:
        run_dir: the run's folder; its name is the run's name.
        config: resolved.
        state: what `state()` gave before the run was stopped, to go on with the same tracker run.
    """

    def __init__(self, run_dir: Path, config: dict[str, Any], state: dict | None = None):
        self.run_dir = run_dir

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Figures at a step, by name."""

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Sound [T] in [-1, 1]; the rate in Hz."""

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture, uint8 [height, width, 3]."""

    def table(self, name: str, columns: list[str], rows: list[list], step: int) -> None:
        """A table."""

    def checkpoint(self, folder: Path, name: str) -> None:
        """The files of a checkpoint's weights."""

    def state(self) -> dict[str, str]:
        """What a resumed run needs, for the checkpoint."""
        return {}

    def close(self) -> None:
        """Send what is left."""
