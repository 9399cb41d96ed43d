"""What a resumed run may change, and how long it then is."""

import json
import logging
from pathlib import Path
from typing import Any

from src.trainer.settings import steps_in_epoch
from src.utils.options import refuse

logger = logging.getLogger(__name__)


def check_processes(path: Path, state: dict[str, Any], processes: int) -> None:
    """Log another number of processes than before.

    Args:
        path: of the run.
        state: of the checkpoint.
        processes: number of them now.

    Raises:
        ValueError: the checkpoint is of an earlier version, which counted the batches of each
            process.
    """
    before = len(state["random"])
    if before == processes:
        return
    if "batches" not in state["train_loader"]:
        raise ValueError(f"{path}: saved by {before} processes, resumed with {processes}.")
    logger.info("%d processes go on with what %d processes have saved.", processes, before)


def check_data(path: Path, amount: dict[str, float] | None) -> None:
    """Warn if a run that is resumed has other training data than before.

    Args:
        path: of the run, with `data.json`.
        amount: of the data now; None: unknown.
    """
    file = path / "data.json"
    if amount is None or not file.exists():
        return
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        parts = [f"{one['utterances']} utterances, {one['hours']} h" for one in (before, amount)]
    except (ValueError, KeyError, TypeError):  # damaged
        return
    if before != amount:
        change = " -> ".join(parts)
        told = "%s: the training data changed (%s); an epoch that was begun has other batches now."
        logger.warning(told, path, change)


def length_of(settings: Any, loader: Any, total_steps: int | None) -> dict[str, Any]:
    """The length of a run with all that it follows from, apart from the data.

    Args:
        settings: `Settings`, or `trainer` of the config.
        loader: of the training data.
        total_steps: optimisation steps of the run.
    """
    return {
        "total_steps": total_steps,
        "epochs": settings.epochs,
        "steps_per_epoch": settings.steps_per_epoch,
        "batches_in_step": loader.batches_in_step,
    }


def count_steps(settings: Any, loader: Any, state: dict[str, Any] | None = None) -> int:
    """Number of optimisation steps of the whole run, for schedulers.

    A run that is resumed stays as long as it was planned. If it has more epochs than before, or
    epochs or steps of another length, those that are done count as they were.

    Args:
        settings: `trainer` of the config.
        loader: of the training data; of a resumed run at its position.
        state: of the checkpoint of a resumed run.

    Raises:
        ValueError: `trainer.steps_per_epoch` is null, and the dataset has no length, or the epochs
            so far were no passes over it.
    """
    if state is None:
        return steps_from(settings, loader, 0)
    length, epoch = state.get("length", {}), state["epoch"]
    planned = length.get("total_steps")
    if planned and length == length_of(settings, loader, planned):
        return planned
    if length.get("steps_per_epoch") and not settings.steps_per_epoch:
        refuse("config, trainer.steps_per_epoch", None, "a number, as the run has had one")
    later = steps_from(settings, loader, epoch + 1)
    rest = steps_left(settings, loader, epoch, state["step_in_epoch"])
    return state["step"] + max(0, rest) + later


def steps_from(settings: Any, loader: Any, epoch: int) -> int:
    """Optimisation steps of all epochs from one on.

    Args:
        settings: `trainer` of the config.
        loader: of the training data.
        epoch: from 0.

    Raises:
        ValueError: `trainer.steps_per_epoch` is null, and the dataset has no length.
    """
    if settings.steps_per_epoch:
        return settings.steps_per_epoch * max(0, settings.epochs - epoch)
    steps_in_epoch(loader, 0, None)
    return sum(loader.plan(settings.epochs)[epoch:])


def steps_left(settings: Any, loader: Any, epoch: int, done: int) -> int:
    """Optimisation steps that are left of an epoch.

    Args:
        settings: `Settings`.
        loader: of the training data, at its position.
        epoch: from 0.
        done: its steps so far.
    """
    if settings.steps_per_epoch:
        return settings.steps_per_epoch - done
    return loader.steps_left(epoch)
