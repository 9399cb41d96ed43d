"""What a task adds to the frame: five methods and two names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


class Task:
    """Does with a finished batch what only the task knows; every method may be left as it is.

    Attributes:
        output: the batch key that a user of a finished run wants, e.g. the transcripts.
        worst_first: the column by which the table of utterances is sorted, largest first;
            with a minus in front, smallest first.
    """

    output: str = ""
    worst_first: str = ""

    def run(self, model: Callable[..., dict[str, Any]], **batch) -> dict[str, Any]:
        """What the model says of a batch of an evaluation."""
        return model(**batch)

    def postprocess(self, **batch) -> dict[str, Any]:
        """Keys to add once a batch of an evaluation went through model and loss.

        `rows`, if given, is a list of one dict an utterance: its line in the tables.
        """
        return {}

    def log_batch(self, writer, step: int, name: str, **batch) -> None:
        """Show a batch to a person through the writer; `name` is the split."""

    def picture(self, rows: list[dict]) -> np.ndarray | None:
        """All utterances of a split at a glance, uint8 [height, width, 3], from their rows."""
        return None

    def save_batch(self, directory: Path, **batch) -> None:
        """Write one file for each utterance, named by its id."""
