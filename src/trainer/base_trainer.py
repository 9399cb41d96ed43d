"""The training loop: everything but the optimisation step itself."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tqdm.auto import tqdm

from src.metrics.tracker import MetricTracker
from src.tasks.base import Task
from src.trainer.checkpoint import (
    WEIGHTS,
    existing,
    load_weights,
    read_state,
    read_tensors,
    save_checkpoint,
)
from src.trainer.evaluation import Batch, Step, evaluate, to_device
from src.trainer.media import changes, first_item, show_changes
from src.trainer.monitor import Monitor
from src.trainer.pretrained import load_pretrained
from src.trainer.random_state import random_state, set_random_state
from src.trainer.run_folder import RunFolder
from src.trainer.self_test import make_self_test
from src.trainer.signals import StopSignal

logger = logging.getLogger(__name__)


class BaseTrainer(ABC):
    """Epochs, evaluation, checkpoints, resume, early stopping and signals.

    A subclass says what one optimisation step is.

    Args:
        model, optimizer: as prepared by the accelerator.
        loss: batch -> named parts and their sum `loss`.
        task: postprocesses, logs and saves batches.
        scheduler: stepped once a step; a ReduceLROnPlateau after each evaluation.
        stream: the order of the training batches (`src.datasets.samplers.BatchStream`).
        load_from: position in the stream -> iterator over this process's training batches.
        loaders: split -> batches to evaluate on.
        transforms: `train` and `inference` -> batch transforms.
        trackers: split -> metrics.
        writer: shows scalars, audio, images and tables to a person.
        run: the run's folder.
        accelerator: devices, precision and processes.
        self_test_audio: [T], the recording whose outputs are stored with the weights.
        sample_rate: of all audio, in Hz.
        epochs: how many; an epoch is one pass over the data or `steps_per_epoch` steps.
        steps_per_epoch: optimisation steps an epoch, or None.
        accumulate: batches a step.
        max_grad_norm: gradients are scaled down to this norm; None: never.
        monitor: which figure chooses the best checkpoint, e.g. `min val/WER`.
        patience: evaluations without a better figure before training stops.
        validation_splits: evaluated after each epoch.
        test_splits: evaluated once at the end, with the best weights.
        save_every: steps between checkpoints inside an epoch; None: only after epochs.
        log_every: steps between rows of training figures.
        show_every: epochs between pictures and audio in the writer; 0: never.
        show_stages: `ends` shows what goes into and comes out of the transforms, `all` every one.
        upload_checkpoints: give the best checkpoint to the writer at the end.
        max_discarded: steps in a row with a non-finite loss before the run stops.
        from_pretrained: a run, checkpoint or file of weights to start from; with
            `pretrained_part` and `pretrained_strict` as for `load_pretrained`.
        resume_from: given when `run` is to go on from its last checkpoint.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        loss: Step,
        task: Task,
        optimizer: Optimizer,
        scheduler: LRScheduler | ReduceLROnPlateau | None,
        stream: Any,
        load_from: Callable[[int, int], Iterator[Batch]],
        loaders: dict[str, Any],
        transforms: dict[str, Any],
        trackers: dict[str, MetricTracker],
        writer: Any,
        run: RunFolder,
        accelerator: Accelerator,
        self_test_audio: Tensor,
        sample_rate: int,
        epochs: int,
        steps_per_epoch: int | None = None,
        accumulate: int = 1,
        max_grad_norm: float | None = None,
        monitor: str | None = None,
        patience: int | None = None,
        validation_splits: list[str] | None = None,
        test_splits: list[str] | None = None,
        save_every: int | None = None,
        log_every: int = 50,
        show_every: int = 1,
        show_stages: str = "ends",
        upload_checkpoints: bool = False,
        max_discarded: int = 10,
        from_pretrained: str | None = None,
        pretrained_part: str | None = None,
        pretrained_strict: bool = True,
        resume_from: str | None = None,
    ):
        self.model, self.loss, self.task = model, loss, task
        self.optimizer, self.scheduler = optimizer, scheduler
        self.stream, self.load_from, self.loaders = stream, load_from, loaders
        self.transforms, self.trackers = transforms, trackers
        self.writer, self.run, self.accelerator = writer, run, accelerator
        self.self_test_audio, self.sample_rate = self_test_audio, sample_rate
        self.epochs, self.steps_per_epoch, self.accumulate = epochs, steps_per_epoch, accumulate
        self.max_grad_norm, self.max_discarded = max_grad_norm, max_discarded
        self.save_every, self.log_every = save_every, log_every
        self.show_every, self.show_stages = show_every, show_stages
        self.upload_checkpoints = upload_checkpoints
        self.validation_splits = list(validation_splits or [])
        self.test_splits = list(test_splits or [])
        self.check_splits()
        self.monitor = Monitor(monitor, patience, self.figure_names())
        if isinstance(scheduler, ReduceLROnPlateau) and monitor is None:
            raise ValueError("scheduler: ReduceLROnPlateau needs trainer.monitor.")

        self.skipped_files = 0
        self.step = 0  # optimisation steps so far
        self.epoch = 0
        self.step_in_epoch = 0
        self.position = (0, 0)  # epoch and batch of the data stream
        self.seconds = 0.0  # time spent in earlier sessions of this run
        self.started = time.monotonic()
        self.stop = StopSignal()
        if resume_from:
            self.restore()
        elif from_pretrained:
            source = Path(from_pretrained)
            load_pretrained(self.bare_model(), source, pretrained_part, pretrained_strict)

    @abstractmethod
    def optimise(self, batches: list[Batch]) -> dict[str, float]:
        """One optimisation step on the batches of one accumulation; returns figures to log."""

    # What the others call ------------------------------------------------------------------

    def train(self) -> dict[str, float]:
        """Train to the end.

        Returns:
            The figures of the last evaluation of each split, `<split>/<name>`; those of the test
            splits are from the best weights.

        Raises:
            SystemExit: a signal came; the state was saved.
        """
        figures: dict[str, float] = {}
        padding = 100 * self.stream.sampler.padding_share()
        logger.info("%d steps in the first epoch, %.1f %% padding", self.stream.steps(0), padding)
        with self.stop:
            batches = self.load_from(*self.position)
            while self.epoch < self.epochs and not self.monitor.out_of_patience():
                self.train_epoch(batches)
                figures = self.finish_epoch()
        return figures | self.test()

    # The loop ------------------------------------------------------------------------------

    def train_epoch(self, batches: Iterator[Batch]) -> None:
        """The steps that are left of this epoch."""
        steps = self.steps_per_epoch or self.stream.steps(self.epoch)
        bar = tqdm(
            total=steps,
            initial=self.step_in_epoch,
            desc=f"epoch {self.epoch + 1}/{self.epochs}",
            disable=not self.accelerator.is_local_main_process,
            dynamic_ncols=True,
        )
        self.model.train()
        with bar:
            while self.step_in_epoch < steps:
                self.take_step(batches, bar)

    def take_step(self, batches: Iterator[Batch], bar: tqdm) -> None:
        """One step, and what may follow it: a row of figures, a checkpoint, the end."""
        taken = [self.next_batch(batches) for _ in range(self.accumulate)]
        if self.step_in_epoch == 0 and self.show_every and self.epoch % self.show_every == 0:
            self.show_transforms(taken[0])
        figures = self.optimise(taken)
        self.step += 1
        self.step_in_epoch += 1
        bar.update()
        bar.set_postfix({key: f"{value:.3g}" for key, value in figures.items()}, refresh=False)
        if self.step % self.log_every == 0:
            self.log("train", figures | {"skipped_files": float(self.skipped_files)})
        if self.save_every and self.step % self.save_every == 0:
            self.save(self.run.last)
        if self.must_stop():
            self.save_and_exit()

    def next_batch(self, batches: Iterator[Batch]) -> Batch:
        """The next batch of the stream, whose position moves on."""
        batch = next(batches)
        self.note_skipped(batch)
        epoch, taken = self.position
        at_end = taken + 1 == self.stream.batches_in(epoch)
        self.position = (epoch + 1, 0) if at_end else (epoch, taken + 1)
        return batch

    def note_skipped(self, batch: Batch) -> None:
        """Name and count the files that the dataset was allowed to skip."""
        self.skipped_files += batch["skipped"]
        for error in batch["errors"]:
            logger.warning("skipped: %s", error)

    def finish_epoch(self) -> dict[str, float]:
        """Evaluate, keep the weights if they are the best, save."""
        figures: dict[str, float] = {}
        for split in self.validation_splits:
            figures |= self.evaluate(split)
        better = self.monitor.is_better(figures)
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(figures[self.monitor.name])  # type: ignore[index]
        self.epoch += 1
        self.step_in_epoch = 0
        if better:
            self.save(self.run.best)
        self.save(self.run.last)
        return figures

    def test(self) -> dict[str, float]:
        """Figures of the test splits with the best weights, or the last without a monitor."""
        folder = existing(self.run.best if self.monitor.name else self.run.last)
        load_weights(self.bare_model(), read_tensors(folder / WEIGHTS), folder)
        figures: dict[str, float] = {}
        for split in self.test_splits:
            figures |= self.evaluate(split)
        if self.upload_checkpoints:
            self.writer.checkpoint(folder, folder.name)
        return figures

    def evaluate(self, split: str) -> dict[str, float]:
        """Evaluate a split and log its figures and its first batch."""
        rows: list[list[dict]] = []

        def show(batch: Batch) -> None:
            if not rows and self.accelerator.is_main_process:
                self.task.log_batch(self.writer, self.step, split, **batch)
            rows.append(batch.get("rows", []))

        figures = evaluate(
            self.model,
            self.loaders[split],
            transforms=self.transforms["inference"],
            loss=self.loss,
            task=self.task,
            tracker=self.trackers[split],
            accelerator=self.accelerator,
            name=split,
            on_batch=show,
        )
        self.log(split, figures)
        picture = self.task.picture(gather_object([row for own in rows for row in own]))
        if picture is not None:
            self.writer.image(f"{split}/all", picture, self.step)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        logger.info("step %d, %s: %s", self.step, split, shown)
        return {f"{split}/{name}": value for name, value in figures.items()}

    # State ---------------------------------------------------------------------------------

    def bare_model(self) -> nn.Module:
        """The model without the wrapper that several processes need."""
        return self.accelerator.unwrap_model(self.model)

    def save(self, folder: Path) -> None:
        """Write weights, state and self-test; all processes must call this."""
        state = self.state_dict()
        weights = self.accelerator.get_state_dict(self.model)
        if self.accelerator.is_main_process:
            test = make_self_test(
                self.self_test_audio,
                self.bare_model(),
                self.transforms["inference"],
                self.accelerator.device,
            )
            save_checkpoint(folder, weights, state, test)
        self.accelerator.wait_for_everyone()

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs beside the weights."""
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "position": list(self.position),
            "seconds": self.elapsed(),
            "monitor": self.monitor.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "scaler": scaler.state_dict() if scaler else None,
            "writer": self.writer.state(),
            "random": gather_object([random_state()]),
        }

    def restore(self) -> None:
        """Go on from the last checkpoint.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is truncated, of another model or of another number of processes.
        """
        folder = existing(self.run.last)
        state = read_state(folder)
        if len(state["random"]) != self.accelerator.num_processes:
            raise ValueError(
                f"{folder}: saved by {len(state['random'])} processes, resumed with "
                f"{self.accelerator.num_processes}."
            )
        load_weights(self.bare_model(), read_tensors(folder / WEIGHTS), folder)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.monitor.load_state_dict(state["monitor"])
        self.step, self.epoch = state["step"], state["epoch"]
        self.step_in_epoch, self.position = state["step_in_epoch"], tuple(state["position"])
        self.seconds = state["seconds"]
        set_random_state(state["random"][self.accelerator.process_index])
        if self.accelerator.is_main_process:
            self.run.forget_after(self.step)
        logger.info("Going on at step %d, epoch %d.", self.step, self.epoch + 1)

    def must_stop(self) -> bool:
        """Whether any process got a signal; all get the same answer."""
        if self.accelerator.num_processes == 1:
            return bool(self.stop.number)
        flag = torch.tensor([self.stop.number], device=self.accelerator.device)
        number = int(self.accelerator.gather(flag).max())
        self.stop.number = number
        return bool(number)

    def save_and_exit(self) -> None:
        """Save because a signal came, and leave with the code that shells expect."""
        self.save(self.run.last)
        self.writer.close()
        logger.info(
            "Stopped by a signal at step %d; go on with trainer.resume_from=%s",
            self.step,
            self.run.path,
        )
        raise SystemExit(128 + self.stop.number)

    # Showing -------------------------------------------------------------------------------

    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.seconds + time.monotonic() - self.started

    def log(self, split: str, figures: dict[str, float]) -> None:
        """Figures of a split to the run's folder and to the writer."""
        if not self.accelerator.is_main_process:
            return
        named = {f"{split}/{name}": value for name, value in figures.items()}
        row = {"step": self.step, "epoch": self.epoch, "time": round(self.elapsed(), 1)}
        self.run.log_metrics(row | named)
        self.writer.scalars(named, self.step)

    def show_transforms(self, batch: Batch) -> None:
        """The first item of a batch before and after the transforms, as audio and pictures."""
        if self.accelerator.is_main_process:
            item = first_item(to_device(batch, self.accelerator.device))
            stages = changes(self.transforms["train"], item)
            show_changes(self.writer, stages, self.show_stages, self.sample_rate, self.step)

    def check_splits(self) -> None:
        """See that the splits to evaluate exist.

        Raises:
            ValueError: one doesn't.
        """
        for split in self.validation_splits + self.test_splits:
            if split not in self.loaders:
                raise ValueError(
                    f"trainer: no dataset is called '{split}'; there are {', '.join(self.loaders)}."
                )

    def figure_names(self) -> list[str]:
        """What the monitor can watch."""
        return [f"{s}/{name}" for s in self.validation_splits for name in self.trackers[s].names()]
