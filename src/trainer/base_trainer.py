"""The training loop: everything but the optimisation step itself."""

import logging
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NoReturn

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from tqdm.auto import tqdm

from src.report.collector import Collector
from src.trainer.averaging import WeightAverage
from src.trainer.checks import check_names
from src.trainer.compiling import uncompiled
from src.trainer.evaluation import Batch, Evaluation, directions, evaluate, try_evaluations
from src.trainer.media import first_item, show_stages
from src.trainer.monitor import Monitor
from src.trainer.optimization import Optimization
from src.trainer.random_state import random_state, set_random_state, set_random_state_of
from src.trainer.reporter import Reporter
from src.trainer.resuming import check_processes, length_of, steps_left
from src.trainer.saving import Saver
from src.trainer.settings import Settings, steps_in_epoch
from src.trainer.sharding import in_lockstep, unsharded
from src.trainer.signals import Stopped, StopSignal
from src.trainer.throughput import Throughput
from src.utils.means import means
from src.utils.phases import phase

logger = logging.getLogger(__name__)

COUNTERS = ("step", "epoch", "step_in_epoch", "discarded", "discarded_in_a_row")


class BaseTrainer(ABC):
    """Epochs, evaluations, checkpoints, resume, early stopping and signals.

    A subclass defines the optimisation step; it exists only where that step itself changes.

    Args:
        system: `src.system.System`, as prepared by the accelerator.
        train_loader: endless batches with a position, see `src.datasets.loading.train`.
        evaluations: by name; which of them are made when is said by the settings.
        optimizations: optimizers and schedules by name.
        run: `src.run.Run`, the folder.
        writer: shows scalars, audio, images and tables to a person.
        reporter: makes the page about the test evaluations.
        accelerator: devices, precision and processes.
        total_steps: of the whole run, for which the schedules were made; None: unknown.
        settings: the fields of `Settings`.

    Raises:
        ValueError: a setting has a bad value or names what doesn't exist.
    """

    def __init__(
        self,
        *,
        system: nn.Module,
        train_loader: Any,
        evaluations: dict[str, Evaluation],
        optimizations: dict[str, Optimization],
        run: Any,
        writer: Any,
        reporter: Reporter,
        accelerator: Accelerator,
        total_steps: int | None = None,
        **settings: Any,
    ):
        self.settings = Settings(**settings)
        self.wrapped, self.system = system, accelerator.unwrap_model(system)
        self.train_loader, self.evaluations = train_loader, evaluations
        self.optimizations = optimizations
        self.run, self.writer, self.accelerator = run, writer, accelerator
        self.reporter, self.total_steps = reporter, total_steps
        check_names(self)
        validations = [evaluations[name] for name in self.settings.validate_on]
        monitor, patience = self.settings.monitor, self.settings.patience
        self.monitor = Monitor(monitor, patience, directions(validations))
        for optimization in optimizations.values():
            optimization.follow(self.monitor.higher_is_better)

        average, epochs = self.settings.average or {}, self.settings.epochs
        self.average = WeightAverage(self.system.model, **average, epochs=epochs)
        self.throughput = Throughput(self.system, accelerator)
        self.step = 0  # optimisation steps so far
        self.epoch = self.step_in_epoch = 0
        self.skipped_files = 0
        self.discarded = self.discarded_in_a_row = 0  # steps whose loss or gradient wasn't finite
        self.values: dict[str, float] = {}  # of the last validation
        self.saved: tuple[int, int] | None = None  # step and epoch of the last checkpoint
        self.seconds = 0.0  # of earlier sessions of this run
        self.started = time.monotonic()
        background, model = self.settings.save_in_background, self.system.model
        self.saver = Saver(run, model, accelerator, background, self.settings.process_timeout)
        self.in_lockstep = in_lockstep(model)
        self.stop = StopSignal()

    @abstractmethod
    def optimise(self, batches: list[Batch]) -> dict[str, float]:
        """One optimisation step on the batches of one accumulation; returns values to log.

        With fp16, it unscales gradients and updates the scaler, as `Trainer.update` does.
        """

    # The public call -----------------------------------------------------------------------

    def train(self) -> dict[str, float]:
        """Train to the end, then test with the best weights.

        Returns:
            `<evaluation>/<metric>` -> value of the weights that are kept as the best ones; of the
            last ones without a monitored metric.

        Raises:
            SystemExit: a signal came, perhaps an error after it; what could be saved was.
            ValueError: the run has diverged.
            OSError: a checkpoint could not be written.
        """
        if self.settings.resume_from:
            self.restore()
        try_evaluations(self.system, self.evaluations.values())
        self.log_plan()
        with self.stop, self.saver:
            try:
                while self.epoch < self.settings.epochs and not self.monitor.out_of_patience():
                    self.train_epoch()
                    self.finish_epoch()
                    self.check_stop()
                if self.epoch < self.settings.epochs:
                    self.monitor.log_early_stop(self.epoch)
            except Stopped:
                self.save_last()
                self.leave()
            try:
                values = self.values | self.monitor.best_values | self.test()
                self.check_stop()
            except Stopped:
                self.leave()  # the last checkpoint is there; the weights now are the best ones'
        return values

    # The loop ------------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """The steps that are left of this epoch."""
        done = self.step_in_epoch
        steps = done + steps_left(self.settings, self.train_loader, self.epoch, done)
        bar = tqdm(
            total=steps,
            initial=self.step_in_epoch,
            desc=f"epoch {self.epoch + 1}/{self.settings.epochs}",
            disable=not self.accelerator.is_local_main_process,
            dynamic_ncols=True,
        )
        self.wrapped.train()
        with bar:
            while self.step_in_epoch < steps:
                self.train_step(bar)

    def train_step(self, bar: tqdm) -> None:
        """One step, and what may follow it: a row of metrics, a checkpoint, the end."""
        settings = self.settings
        batches = self.throughput.take(self.train_loader, self.train_loader.accumulate)
        self.skipped_files += sum(batch["skipped"] for batch in batches)
        every = settings.show_every_epochs
        if self.step_in_epoch == 0 and every and self.epoch % every == 0:
            self.show_transforms(batches[0])
        with self.throughput:
            values = self.optimise(batches)
            self.average.after_step()
        self.step += 1
        self.step_in_epoch += 1
        if settings.log_ids:
            self.log_ids(batches)
        with phase("logging"):
            bar.update()
            bar.set_postfix({key: f"{value:.3g}" for key, value in values.items()}, refresh=False)
            if self.step % settings.log_every_steps == 0:
                skipped = float(sum(gather_object([self.skipped_files])))
                values = means(gather_object([values])) | {"skipped_files": skipped}
                self.log("train", values | self.throughput.row())
        if settings.save_every_steps and self.step % settings.save_every_steps == 0:
            self.save_last()
        self.check_stop()

    def finish_epoch(self) -> None:
        """Evaluate, keep the weights if they are the best, save.

        A run that is stopped in the evaluation goes on with it, and not with the epoch.
        """
        self.average.after_epoch(self.epoch)
        self.save_last()
        values: dict[str, float] = {}
        with self.average.applied():
            for name in self.settings.validate_on:
                values |= self.evaluate(name)
        better = self.monitor.is_better(values)
        for optimization in self.optimizations.values():
            if optimization.needs_metric and self.monitor.name:
                optimization.step_on_metric(values[self.monitor.name])
        self.values = values
        self.epoch += 1
        self.step_in_epoch = 0
        if better:
            self.save("best")
        self.save_last()

    def test(self) -> dict[str, float]:
        """Values of the test evaluations with the best weights, or the last without a monitor."""
        checkpoint = "best" if self.monitor.name else "last"
        self.saver.wait()
        self.accelerator.wait_for_everyone()
        self.run.load_weights(self.system.model, checkpoint)
        values: dict[str, float] = {}
        self.reporter.prepare(self.settings.test_on)
        for name in self.settings.test_on:
            values |= self.evaluate(name, self.reporter.start(self.evaluations[name]))
        self.reporter.write()
        if self.settings.upload_checkpoints:
            self.writer.checkpoint(self.run.checkpoint(checkpoint), checkpoint)
        return values

    def evaluate(self, name: str, collector: Collector | None = None) -> dict[str, float]:
        """One evaluation; its values and its first batch are logged.

        Random states are left as they were, so that training goes on as if there had been none.

        Args:
            name: of the evaluation.
            collector: for the report; None: the evaluation isn't part of it.

        Raises:
            ValueError: the loss isn't finite, unless the evaluation is part of the report.
        """
        evaluation, shown = self.evaluations[name], False
        state = random_state()

        def show(batch: Batch) -> None:
            nonlocal shown
            if not shown and self.accelerator.is_main_process:
                self.system.task.show(self.writer, self.step, name, **batch)
            shown = True
            if collector is not None:
                collector.add(batch)

        try:
            values, rows = evaluate(
                self.system, evaluation, self.accelerator, show, self.check_stop
            )
        finally:
            set_random_state(state)
        self.log(name, values)
        if collector is not None:
            self.reporter.finish(evaluation, values, rows, collector)
        picture = self.system.task.picture(rows)
        if picture is not None:
            self.writer.image(f"{name}/all", picture, self.step)
        shown_values = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
        logger.info("step %d, %s: %s", self.step, name, shown_values)
        if not math.isfinite(values.get("loss", 0.0)):
            told = f"{name}/loss is {values['loss']} at step {self.step}"
            if collector is None:
                raise ValueError(f"{told}: diverged.")
            logger.warning("%s.", told)  # one utterance of a test may do this
        return {f"{name}/{key}": float(value) for key, value in values.items()}

    # State ---------------------------------------------------------------------------------

    def save_last(self) -> None:
        """Write the checkpoint to go on from, unless it is there; all processes must call this."""
        if self.saved != (self.step, self.epoch):
            self.save("last")
            self.saved = (self.step, self.epoch)

    def save(self, checkpoint: str) -> None:
        """Write weights, state and self-test; all processes must call this."""
        state = self.state_dict()
        with self.average.applied():
            with unsharded(self.system.model), uncompiled(self.system.model):
                main = self.accelerator.is_main_process
                self_test = self.system.self_test() if main else {}
            self.saver.save(checkpoint, self.system.model.state_dict(), state, self_test)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs beside the weights."""
        scaler = self.accelerator.scaler
        return {
            **{name: getattr(self, name) for name in COUNTERS},
            "length": length_of(self.settings, self.train_loader, self.total_steps),
            "skipped_files": gather_object([self.skipped_files]),
            "seconds": self.elapsed(),
            "values": self.values,
            **self.run.sizes(),
            "monitor": self.monitor.state_dict(),
            "train_loader": self.train_loader.state_dict(),
            "optimizations": {k: v.state_dict() for k, v in self.optimizations.items()},
            "average": self.average.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "writer": self.writer.state(),
            "random": gather_object([random_state()]),
        }

    def restore(self) -> None:
        """Go on from the last checkpoint.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, of another model, can't be resumed by other processes, or a
                run that has ended is to have another monitored metric.
        """
        state = self.run.read_state()
        check_processes(self.run.path, state, self.accelerator.num_processes)
        self.run.load_weights(self.system.model, "last")
        known = self.monitor.load_state_dict(state["monitor"])
        for name, optimization in self.optimizations.items():
            optimization.load_state_dict(state["optimizations"][name])
            optimization.follow(self.monitor.higher_is_better, anew=not known)
        if "average" in state:  # since runs can have one
            self.average.load_state_dict(state["average"])
        if self.accelerator.scaler and state["scaler"]:  # None: without a GPU until now
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.train_loader.load_state_dict(state["train_loader"])
        for key in (*COUNTERS, "values", "seconds"):
            setattr(self, key, state[key])
        if self.monitor.name and not known and self.epoch >= self.settings.epochs:
            raise ValueError("config, trainer.monitor: another one needs more trainer.epochs.")
        self.saved = (self.step, self.epoch)
        self.skipped_files = sum(state["skipped_files"]) if self.accelerator.is_main_process else 0
        set_random_state_of(self.accelerator.process_index, state["random"])
        self.accelerator.wait_for_everyone()  # before files are renamed, all have read them
        if self.accelerator.is_main_process:
            self.run.clean(state["metrics_size"], state.get("ids_size", 0))
        logger.info(
            "Going on with %s at step %d, epoch %d.", self.run.path, self.step, self.epoch + 1
        )

    # Signals -------------------------------------------------------------------------------

    def check_stop(self) -> None:
        """Leave training or an evaluation if any process got a signal; all processes agree.

        Raises:
            Stopped: one did.
            OSError: the last checkpoint could not be written.
        """
        self.saver.check()
        if self.stop.agreed(self.accelerator):
            raise Stopped

    def leave(self) -> NoReturn:
        """End the program with the exit code that shells expect after a signal.

        No process ends before the checkpoint is there: launchers end the others at once.
        """
        self.saver.wait()
        self.writer.close()
        told = f"Stopped by {signal.Signals(self.stop.number).name} at step {self.step}"
        logger.info("%s; go on with trainer.resume_from=%s", told, self.run.path)
        self.accelerator.wait_for_everyone()
        raise SystemExit(128 + self.stop.number)

    # Showing -------------------------------------------------------------------------------

    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.seconds + time.monotonic() - self.started

    def log_plan(self) -> None:
        """Log how long an epoch is and how much of its batches is padding."""
        padding = self.train_loader.padding_fraction()
        shown = "" if padding is None else f", {100 * padding:.1f} % padding"
        steps = steps_in_epoch(self.train_loader, 0, self.settings.steps_per_epoch)
        logger.info("%d steps in the first epoch%s", steps, shown)

    def log(self, name: str, values: Mapping[str, float]) -> None:
        """Values of training or of an evaluation, to the run's folder and to the writer."""
        if not self.accelerator.is_main_process:
            return
        named = {f"{name}/{key}": value for key, value in values.items()}
        row = {"step": self.step, "epoch": self.epoch, "time": round(self.elapsed(), 1)}
        self.run.log_metrics(row | named)
        self.writer.scalars(named, self.step)

    def log_ids(self, batches: list[Batch]) -> None:
        """The ids of the utterances of a step: of each process, of each of its batches."""
        ids = gather_object([[batch["id"] for batch in batches]])
        if self.accelerator.is_main_process:
            self.run.log_ids({"step": self.step, "epoch": self.epoch, "ids": ids})

    def show_transforms(self, batch: Batch) -> None:
        """The first item of a batch before and after the transforms, as audio and pictures."""
        if self.accelerator.is_main_process and batch["id"]:
            stages = self.system.transform_stages(first_item(batch))
            which, rate = self.settings.show_stages, self.system.sample_rate
            show_stages(self.writer, stages, which, rate, self.step)
