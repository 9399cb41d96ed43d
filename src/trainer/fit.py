"""`fit=true`: what a training will need, and the largest batch that fits, without training."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from omegaconf import DictConfig

from src.trainer.rehearsal import Measured, Rehearsal
from src.utils.columns import in_columns
from src.utils.entry import is_out_of_memory
from src.utils.files import write_beside
from src.utils.memory import memory_limit
from src.utils.options import check_number, refuse

RESERVE = 0.9  # fraction of the limit that is planned with
GROWTH = 4  # of the size of batches from one trial to the next at most
CLOSE = 1.1  # a size so much larger isn't tried
WORTHWHILE = 1.05  # times as much audio a second, for which larger batches are suggested
FEWEST_STEPS = 10  # of an epoch, for the largest batch that is suggested
# Fractions of the time for: steps as configured, the search, steps at the largest size, evaluations
# and the time of each phase.
AS_CONFIGURED, SEARCH, AT_LARGEST, PHASES = 0.35, 0.25, 0.2, 0.1
GB = 1e9


@dataclass(frozen=True)
class Prediction:
    """What a training with batches of one size will need.

    Attributes:
        max_seconds: `dataloader.max_seconds`.
        memory_gb: peak, of the GPU's tensors or of this process.
        seconds_per_step: waiting for data and logging included.
        steps: of the whole run.
        hours: to its end, with evaluations, without checkpoints.
        padding: fraction of the seconds in batches that is padding.
        audio_hours_per_second: throughput, padding not included.
        measured: False: extrapolated from smaller batches.
    """

    max_seconds: float
    memory_gb: float
    seconds_per_step: float
    steps: int
    hours: float
    padding: float
    audio_hours_per_second: float
    measured: bool = True


def check_fit(config: DictConfig, accelerator: Accelerator) -> None:
    """Check that an experiment can be measured.

    Raises:
        ValueError: it is run by several processes or resumed, or an option has a bad value.
    """
    check_number("config, fit_limits.seconds", config.fit_limits.seconds)
    check_number("config, fit_limits.memory_gb", config.fit_limits.memory_gb, optional=True)
    if accelerator.num_processes > 1:
        refuse("config, fit", True, "false with several processes; measure one of them")
    if config.trainer.resume_from:
        refuse("config, fit", True, "false for a run that is resumed")


class Fit:
    """Measures an experiment in about a minute.

    Args:
        trainer: `src.trainer.base_trainer.BaseTrainer`, which must not be used afterwards.
        limits: `config.fit_limits`: `seconds` that measuring may take, and `memory_gb` that
            training may use, None for what the GPU or this machine has free.
    """

    def __init__(self, trainer: Any, limits: DictConfig):
        self.trainer, self.rehearsal = trainer, Rehearsal(trainer)
        self.budget = float(limits.seconds)
        device = trainer.accelerator.device
        self.limit = limits.memory_gb * GB if limits.memory_gb else memory_limit(device)
        self.points: dict[float, Measured] = {}  # trials, by `max_seconds`
        self.evaluation_hours = 0.0
        # What many steps of all sizes need more than single ones, per second of a batch.
        self.growth = 0.0

    def __call__(self) -> dict[str, Any]:
        """Measure, write `fit.json` and `profile.json.gz` into the run's folder, and print."""
        rehearsal, configured = self.rehearsal, self.rehearsal.options.max_seconds
        longest = float(rehearsal.dataset.durations.max())
        rehearsal.probe(longest)  # makes the optimizer's state, and loads libraries
        self.probe(longest)
        self.probe(min(2 * longest, configured))
        if self.memory_at(longest) > self.limit:
            needed, limit = self.memory_at(longest) / GB, self.limit / GB
            raise ValueError(f"fit: the longest utterance needs {needed:.2f} of {limit:.2f} GB.")
        now = None
        if self.memory_at(configured) < self.limit:
            now = self.try_to_rehearse(configured, AS_CONFIGURED)
            if now:
                self.growth = max(0.0, now.memory - self.memory_at(configured)) / configured
        self.count_evaluations()
        as_configured = self.predict(configured, now) if now else None
        phases = rehearsal.phases(PHASES * self.budget) if now else {}
        profile = self.trainer.run.path / "profile.json.gz"
        if now:
            rehearsal.profile(profile)
        self.search()
        size = self.largest()
        largest = as_configured
        if now is None and size >= configured:
            raise ValueError(
                f"fit: batches of {configured:g} s need too much memory, and there are no smaller "
                "ones, or none that need less."
            )
        if size != configured:
            time_known = self.seconds_at(size) * 6 < AT_LARGEST * self.budget
            best = self.try_to_rehearse(size, AT_LARGEST) if time_known else None
            largest = self.predict(size, best)
        found = {
            "limit_gb": self.limit / GB,
            "as_configured": asdict(as_configured) if as_configured else None,
            "largest": asdict(largest) if largest else None,
            "phases": phases,
        }
        path = self.trainer.run.path / "fit.json"
        with write_beside(path) as beside:
            beside.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        self.trainer.run.metrics_path.unlink(missing_ok=True)  # rows of steps that don't count
        print(report(found, profile if now else None))
        return found

    def probe(self, max_seconds: float) -> bool:
        """Try a size of batches; returns whether the GPU had enough memory for it."""
        if max_seconds in self.points:
            return True
        try:
            self.points[max_seconds] = self.rehearsal.probe(max_seconds)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not self.points:  # nothing to extrapolate from
                raise
            self.limit = min(self.limit, self.memory_at(max_seconds))
            return False
        return True

    def try_to_rehearse(self, max_seconds: float, fraction: float) -> Measured | None:
        """Measure steps at a size of batches; None if the GPU hasn't enough memory."""
        try:
            return self.rehearsal.rehearse(max_seconds, fraction * self.budget)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.limit = min(self.limit, self.memory_at(max_seconds))
            return None

    def search(self) -> None:
        """Try larger and larger batches until memory, the data or the time ends."""
        left = SEARCH * self.budget
        while True:
            last, most = max(self.points), self.largest()
            size = min(most, GROWTH * last)
            left -= 2 * self.seconds_at(size)  # long and short utterances
            if size < CLOSE * last or left < 0 or not self.probe(size):
                return

    def largest(self) -> float:
        """The largest size of batches that fits, by what is known; two digits.

        It is limited by the data, too: an epoch has ten steps or more.
        """
        rehearsal = self.rehearsal
        total = float(rehearsal.dataset.durations.sum())
        most = total / FEWEST_STEPS / rehearsal.accumulate
        slope, base = self.line("memory")
        if slope > 0:
            most = min(most, (RESERVE * self.limit - base) / slope)
        most = max(most, float(rehearsal.dataset.durations.max()))
        unit = 10 ** math.floor(math.log10(most) - 1)
        rounded = math.floor(most / unit) * unit
        return float(rounded if rounded >= rehearsal.dataset.durations.max() else most)

    def line(self, what: str) -> tuple[float, float]:
        """Slope and intercept of memory or seconds over the two largest sizes that were tried."""
        sizes = sorted(self.points)
        last = sizes[-1]
        before = sizes[-2] if len(sizes) > 1 else 0.0
        y1 = getattr(self.points[last], what)
        y0 = getattr(self.points[before], what) if before else 0.0
        slope = max(0.0, (y1 - y0) / (last - before))
        return slope + (self.growth if what == "memory" else 0.0), y1 - slope * last

    def memory_at(self, max_seconds: float) -> float:
        """Bytes that batches of a size need, extrapolated."""
        slope, base = self.line("memory")
        return base + slope * max_seconds

    def seconds_at(self, max_seconds: float) -> float:
        """Seconds of a step with batches of a size, extrapolated."""
        slope, base = self.line("seconds")
        return base + slope * max_seconds

    def count_evaluations(self) -> None:
        """Measure the time of all evaluations of the run."""
        settings = self.trainer.settings
        once = {name: self.rehearsal.evaluation_seconds(name) for name in self.trainer.evaluations}
        during = sum(once[name] or 0.0 for name in settings.validate_on) * settings.epochs
        after = sum(once[name] or 0.0 for name in settings.test_on)
        self.evaluation_hours = (during + after) / 3600

    def predict(self, max_seconds: float, measured: Measured | None) -> Prediction:
        """What a training with batches of a size will need.

        Args:
            max_seconds: of the batches.
            measured: their steps; None: extrapolated.
        """
        settings, sampler = self.trainer.settings, self.rehearsal.sampler(max_seconds)
        epoch = self.rehearsal.epoch
        count, padding = len(sampler.batches(epoch)), sampler.padding_fraction(epoch)
        accumulate = self.rehearsal.accumulate
        steps = (settings.steps_per_epoch or -(-count // accumulate)) * settings.epochs
        if measured is None:
            audio = float(sampler.seconds(sampler.batches(epoch).indices).sum())
            audio *= accumulate / count
            filled = audio / (1 - padding) / accumulate  # of a batch that isn't the largest
            memory = int(self.memory_at(max_seconds))
            step = Measured(memory, self.seconds_at(filled), audio)
        else:
            step = measured
        return Prediction(
            max_seconds=max_seconds,
            memory_gb=step.memory / GB,
            seconds_per_step=step.seconds,
            steps=steps,
            hours=steps * step.seconds / 3600 + self.evaluation_hours,
            padding=padding,
            audio_hours_per_second=step.audio / 3600 / step.seconds,
            measured=measured is not None,
        )


ROWS = {
    "dataloader.max_seconds": "{max_seconds:g}",
    "memory": "{memory_gb:.2f} GB",
    "time of a step": "{seconds_per_step:.3g} s",
    "steps": "{steps:,}",
    "time to the end": "{hours:.2f} h",
    "padding": "{padding:.1%}",
    "hours of audio a second": "{audio_hours_per_second:.3g}",
}


def report(found: dict[str, Any], profile: Path | None) -> str:
    """What was found, for people."""
    now, largest = found["as_configured"], found["largest"]
    lines = [f"Memory that can be used: {found['limit_gb']:.2f} GB"]
    columns = {"as configured": now, "largest that fits": largest}
    columns = {name: one for name, one in columns.items() if one}
    rows = [["", *columns]]
    rows += [
        [name, *(form.format_map(one) for one in columns.values())] for name, form in ROWS.items()
    ]
    lines += ["", in_columns(rows)]
    if now is None:
        lines.append("Batches as configured don't fit.")
    if not largest["measured"]:
        lines.append("Those of the largest batch are extrapolated from smaller ones.")
    if found["phases"]:
        phases = dict(found["phases"])
        rate = phases.pop("mfu", None)
        shown = ", ".join(f"{name} {fraction:.0%}" for name, fraction in phases.items())
        lines += ["", f"A step: {shown}"]
        if rate is not None:
            lines.append(f"Fraction of the machine's rate of matrix products: {rate:.0%}")
    if profile is not None:
        lines += [f"Profile: {profile} (open it in ui.perfetto.dev or chrome://tracing)"]
    lines += ["", advice(now, largest)]
    lines.append("Nothing was trained.")
    return "\n".join(lines)


def advice(now: dict[str, Any] | None, largest: dict[str, Any]) -> str:
    """Which size of batches to take: the largest one if it hears more audio in the same time."""
    size = f"dataloader.max_seconds={largest['max_seconds']:g}"
    if now is None:
        return f"Suggested: {size}"
    if largest == now:
        return "Suggested: batches as configured"
    if largest["max_seconds"] < now["max_seconds"]:
        why = f"{1 - RESERVE:.0%} of the memory in reserve and {FEWEST_STEPS} steps in an epoch"
        return f"Suggested: {size}, which leaves {why}"
    ratio = largest["audio_hours_per_second"] / now["audio_hours_per_second"]
    gain = f"{ratio:.2f} times as much audio a second"
    if ratio >= WORTHWHILE:
        fewer = " and fewer steps than are configured" if largest["steps"] >= now["steps"] else ""
        return f"Suggested: {size}{fewer}, for {gain}"
    return f"Suggested: batches as configured; {size} fits, too, with {gain}"
