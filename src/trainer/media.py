"""What the model is given, to be heard and seen: audio and spectrograms between transforms."""

from typing import Any

from torch import Tensor

from src.trainer.evaluation import Batch
from src.utils.plots import spectrogram_image

Stages = dict[str, list[tuple[str, Tensor]]]


def first_item(batch: Batch) -> Batch:
    """A batch of the first item alone, without its padding."""
    item: Batch = {}
    for key, value in batch.items():
        if isinstance(value, Tensor) and value.ndim:
            length = batch.get(f"{key}_length")
            item[key] = value[:1] if length is None else value[:1, ..., : int(length[0])]
        else:
            item[key] = value[:1] if isinstance(value, list) else value
    return item


def changes(chain: Any, item: Batch) -> Stages:
    """Run transforms on a batch of one and note what each of them replaced.

    Args:
        chain: `src.transforms.chain.Chain`.
        item: a batch of one.

    Returns:
        `audio` and `spectrogram`, each a list of (name of the transform, [T] or [F, T]).
    """
    seen: Stages = {"audio": [("input", item["audio"][0].cpu())], "spectrogram": []}

    def note(name: str, before: Batch, after: Batch) -> None:
        for key, found in seen.items():
            if key in after and after[key] is not before.get(key):
                found.append((name, after[key][0].detach().float().cpu()))

    chain.run(item, observer=note)
    return seen


def show_changes(writer: Any, seen: Stages, stages: str, sample_rate: int, step: int) -> None:
    """Give what `changes` found to the writer.

    Args:
        writer: gets audio and pictures.
        seen: from `changes`.
        stages: `ends` shows the first and the last, `all` every one.
        sample_rate: in Hz.
        step: the training step.
    """
    for key, found in seen.items():
        chosen = found if stages == "all" or len(found) < 2 else [found[0], found[-1]]
        for number, (name, value) in enumerate(chosen):
            title = f"transforms/{key}_{number}_{name}"
            if key == "audio":
                writer.audio(title, value, sample_rate, step)
            else:
                writer.image(title, spectrogram_image(value), step)
