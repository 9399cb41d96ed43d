"""Training steps that are only measured: their memory, time and phases."""

import gzip
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.profiler import ProfilerActivity, profile
from tqdm.auto import tqdm

from src.datasets.loading.collate import collate
from src.datasets.loading.loaders import LoaderOptions, make_sampler
from src.datasets.loading.train import TrainLoader
from src.datasets.loading.workers import iterate
from src.trainer.evaluation import evaluate
from src.utils.files import write_beside
from src.utils.memory import peak_memory, reset_peak
from src.utils.phases import PhaseClock

FEWEST = 3  # timed steps
PROFILED = 2
POOL = 8  # utterances that are repeated in a batch of a given size
EVALUATED = 3  # batches


@dataclass(frozen=True)
class Measured:
    """What steps took.

    Attributes:
        memory: peak in bytes.
        seconds: of a step.
        audio: seconds of audio in a step, padding not included.
    """

    memory: int
    seconds: float
    audio: float


class Given:
    """A loader of chosen batches, of which a step has some."""

    def __init__(self, batches: Iterator[Any], accumulate: int):
        self.batches, self.accumulate = batches, accumulate

    def __next__(self) -> Any:
        return next(self.batches)


class Rehearsal:
    """Runs training steps of a trainer on chosen batches; nothing is saved.

    Args:
        trainer: `src.trainer.base_trainer.BaseTrainer`, which must not be used afterwards.

    Raises:
        ValueError: the dataset is only an iterator, whose batches can't be chosen.
    """

    def __init__(self, trainer: Any):
        loader = trainer.train_loader
        if not isinstance(loader, TrainLoader):
            raise ValueError("fit: true; needs a dataset that is read by index, not an iterator.")
        self.trainer, self.dataset = trainer, loader.dataset
        self.options, self.seed = loader.options, loader.seed
        self.device = trainer.accelerator.device
        self.accumulate = trainer.settings.accumulate
        self.epoch = int(self.options.sorted_first_epoch)  # the first one is unlike the others
        trainer.settings = replace(
            trainer.settings, save_every_steps=None, show_every_epochs=0, log_ids=False
        )
        for optimization in trainer.optimizations.values():
            optimization.scheduler = None  # which may have fewer steps than are made here
        self.bar = tqdm(disable=True)

    def sampler(self, max_seconds: float) -> Any:
        """Sampler of batches of a given size."""
        return make_sampler(self.dataset, self.with_size(max_seconds), self.seed, train=True)

    def with_size(self, max_seconds: float) -> LoaderOptions:
        """The loader's options with another size of batches."""
        return replace(self.options, max_seconds=max_seconds)

    def repeated(self, max_seconds: float, longest: bool) -> list[Any]:
        """A batch of the longest or of short utterances, for as many items as it may have."""
        order = np.argsort(self.dataset.durations)
        chosen = order[-POOL:] if longest else order[len(order) // 20 :][:POOL]
        items = [self.dataset[self.epoch, int(index)] for index in chosen]
        count = int(max_seconds / self.dataset.durations[chosen].max())
        count = max(1, min(count, self.options.max_items or count))
        return [collate([items[i % len(items)] for i in range(count)])]

    def probe(self, max_seconds: float) -> Measured:
        """Memory and time of a step with the batches of a given size that need most memory.

        On a GPU the second step is timed: at the first one of a size memory is asked for and
        kernels are chosen.
        """
        found = []
        repetitions = 1 if self.device.type == "cpu" else 2
        for longest in (False, True):
            batches = self.repeated(max_seconds, longest) * self.accumulate
            reset_peak(self.device)
            seconds = [self.step(iter(batches)) for _ in range(repetitions)][-1]
            found.append(Measured(peak_memory(self.device), seconds, max_seconds))
        return max(found, key=lambda one: one.memory)

    def rehearse(self, max_seconds: float, budget: float) -> Measured:
        """Measure steps as they would be in training, until the budget in seconds is spent.

        The largest batches come first, and aren't timed: they say what memory is needed. Then come
        batches of all sizes, so that wherever the budget ends, they are spread evenly.
        """
        sampler = self.sampler(max_seconds)
        batches = sampler.batches(self.epoch)
        lengths = np.array([sampler.seconds(batch).max() for batch in batches])
        items = np.array([len(batch) for batch in batches])
        largest = [np.argmax(lengths * items), np.argmax(lengths), np.argmax(items)]
        spread = np.argsort(lengths * items)[evenly_spread(len(batches))]
        first = np.repeat(largest, self.accumulate)
        most = max(FEWEST, len(batches) // self.accumulate)
        spread = np.resize(spread, most * self.accumulate)
        chosen = [batches[i] for i in (*first, *spread)]
        loader = self.load(chosen)
        reset_peak(self.device)
        start = time.perf_counter()
        for _ in largest:
            self.step(loader)
        times: list[float] = []
        while len(times) < most and (len(times) < FEWEST or time.perf_counter() - start < budget):
            times.append(self.uncounted_step(loader))
        loader.close()
        used = spread[: len(times) * self.accumulate]
        audio = float(np.mean([sampler.seconds(batches[i]).sum() for i in used]))
        return Measured(peak_memory(self.device), float(np.mean(times)), audio * self.accumulate)

    def load(self, chosen: list[list[int]]) -> Any:
        """Batches of chosen utterances, read as in training."""
        keys = [[(self.epoch, int(index)) for index in batch] for batch in chosen]
        workers, seed = self.options.num_workers, self.seed
        return iterate(self.dataset, workers, seed, batch_sampler=keys, collate_fn=collate)

    def step(self, batches: Any) -> float:
        """One training step on the next batches; returns its seconds."""
        self.trainer.wrapped.train()
        self.trainer.train_loader = Given(batches, self.accumulate)
        start = time.perf_counter()
        self.trainer.train_step(self.bar)
        return time.perf_counter() - start

    def uncounted_step(self, loader: Any) -> float:
        """One training step on the next batches, without the time of counting operations.

        A step in which they were counted, the first one of a class of lengths, is repeated on the
        same batches, since counting makes a short step on a GPU much longer.

        Args:
            loader: gives batches.

        Returns:
            Seconds, waiting for the batches included.
        """
        known = len(self.trainer.throughput.flops_by_length)
        start = time.perf_counter()
        batches = [next(loader) for _ in range(self.accumulate)]
        waited = time.perf_counter() - start
        seconds = self.step(iter(batches))
        if len(self.trainer.throughput.flops_by_length) > known:
            seconds = self.step(iter(batches))
        return waited + seconds

    def phases(self, budget: float) -> dict[str, float]:
        """Fractions of the time of a step by phase, and `mfu` if it is known."""
        sampler = self.sampler(self.options.max_seconds)
        batches = sampler.batches(self.epoch)
        sizes = [len(batch) * sampler.seconds(batch).max() for batch in batches]
        spread = np.argsort(sizes)[evenly_spread(len(batches))]
        most = (1 + max(FEWEST, len(spread))) * self.accumulate
        loader = self.load([batches[i] for i in np.resize(spread, most)])
        self.step(loader)  # workers begin to read
        self.trainer.throughput.reset()
        settings = self.trainer.settings
        self.trainer.settings = replace(settings, log_every_steps=10**9)  # a row ends here
        start, total, steps = time.perf_counter(), 0.0, 0
        with PhaseClock() as clock:
            while steps < FEWEST or (time.perf_counter() - start < budget and steps < len(spread)):
                total += self.step(loader)
                steps += 1
        loader.close()
        self.trainer.settings = settings
        row = self.trainer.throughput.row()
        fractions = {name: seconds / total for name, seconds in clock.seconds.items()}
        fractions["other"] = 1 - sum(fractions.values())
        return fractions | {key: row[key] for key in ("mfu",) if key in row}

    def profile(self, path: Path) -> None:
        """Write a trace of a few steps for chrome://tracing and Perfetto, compressed with gzip."""
        sampler = self.sampler(self.options.max_seconds)
        middle = sampler.batches(self.epoch)[0]
        loader = self.load([middle] * (1 + PROFILED) * self.accumulate)
        self.step(loader)
        kinds = [ProfilerActivity.CPU]
        if self.device.type == "cuda":
            kinds.append(ProfilerActivity.CUDA)
        else:  # the profiler would print as an error that there is no GPU
            os.environ.setdefault("KINETO_LOG_LEVEL", "5")
        with profile(activities=kinds, acc_events=True) as trace:
            for _ in range(PROFILED):
                self.step(loader)
        loader.close()
        with tempfile.TemporaryDirectory() as folder, write_beside(path) as beside:
            plain = Path(folder) / "profile.json"
            trace.export_chrome_trace(str(plain))
            with plain.open("rb") as source, gzip.open(beside, "wb", compresslevel=5) as target:
                shutil.copyfileobj(source, target)

    def evaluation_seconds(self, name: str) -> float | None:
        """Seconds of an evaluation, from a few of its batches; None if their number is unknown."""
        evaluation = self.trainer.evaluations[name]
        loader, keys = evaluation.loader, evaluation.loader.keys
        if keys is None:
            return None
        loader.keys = [keys[i] for i in evenly_spread(len(keys))[:EVALUATED]]
        items = [sum(map(len, part)) for part in (keys, loader.keys)]
        start = time.perf_counter()
        evaluate(self.trainer.system, evaluation, self.trainer.accelerator)
        return (time.perf_counter() - start) * items[0] / items[1]


def evenly_spread(count: int) -> np.ndarray:
    """An order of 0 ... count - 1, every beginning of which is spread evenly (van der Corput)."""
    indices, places = np.arange(1, count + 1), np.zeros(count)
    fraction = 0.5
    while indices.any():
        places += fraction * (indices % 2)
        indices, fraction = indices // 2, fraction / 2
    return np.argsort(np.argsort(places))
