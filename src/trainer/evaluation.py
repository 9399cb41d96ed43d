"""The one evaluation: training's validation and inference both call it."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.metrics.tracker import MetricTracker
from src.tasks.base import Task

Batch = dict[str, Any]
Step = Callable[..., dict[str, Any]]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on the device."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }


def synchronise_buffers(model: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the main one's buffers, e.g. batch norm's running statistics."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            buffer.copy_(broadcast(buffer))


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    transforms: Step,
    loss: Step | None,
    task: Task,
    tracker: MetricTracker,
    accelerator: Accelerator,
    name: str,
    on_batch: Callable[[Batch], None] = lambda batch: None,
) -> dict[str, float]:
    """Metrics of a model over a split.

    Args:
        model: put in evaluation mode.
        loader: this process's share of the batches.
        transforms: the batch transforms of inference.
        loss: left out where there are no targets.
        task: postprocesses each batch once.
        tracker: reset first; at the end it holds the terms of all processes.
        accelerator: knows the device and the other processes.
        name: the split, for the progress bar.
        on_batch: sees every finished batch.

    Returns:
        Metric name -> figure, the same in every process.
    """
    # Without the wrapper for several processes, whose every forward pass waits for the others.
    model = accelerator.unwrap_model(model)
    model.eval()
    synchronise_buffers(model, accelerator)
    tracker.reset()
    bar = tqdm(loader, desc=name, leave=False, disable=not accelerator.is_local_main_process)
    for batch in bar:
        if batch["id"]:
            batch = transforms(**to_device(batch, accelerator.device))
            batch |= task.run(model, **batch)
            if loss is not None:
                batch |= loss(**batch)
            batch |= task.postprocess(**batch)
            on_batch(batch)
        tracker.update(**batch)
    tracker.share(gather_object)
    return tracker.compute()
