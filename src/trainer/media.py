"""Logging of audio and spectrograms between transforms."""

from typing import Any

from torch import Tensor

from src.trainer.evaluation import Batch
from src.utils.plots import spectrogram_image

Stages = dict[str, list[tuple[str, Tensor]]]


def first_item(batch: Batch) -> Batch:
    """A batch of only the first item, without padding."""
    item: Batch = {}
    for key, value in batch.items():
        if isinstance(value, Tensor) and value.ndim:
            length = batch.get(f"{key}_length")
            item[key] = value[:1] if length is None else value[:1, ..., : int(length[0])]
        else:
            item[key] = value[:1] if isinstance(value, list) else value
    return item


def show_stages(writer: Any, stages: Stages, which: str, sample_rate: int, step: int) -> None:
    """Log the input and output of transforms as audio and images.

    Args:
        writer: experiment tracker.
        stages: from `System.transform_stages`.
        which: `ends` logs the first and the last stage, `all` every stage.
        sample_rate: in Hz.
        step: optimisation step.
    """
    for key, outputs in stages.items():
        chosen = outputs if which == "all" or len(outputs) < 2 else [outputs[0], outputs[-1]]
        for number, (name, value) in enumerate(chosen):
            title = f"transforms/{key}_{number}_{name}"
            if key == "audio":
                writer.audio(title, value, sample_rate, step)
            else:
                writer.image(title, spectrogram_image(value), step)
