"""Settings of the training loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from src.trainer.averaging import check_average
from src.utils.annotations import check_arguments
from src.utils.options import check_choice, check_number, check_whole, refuse, shown

STAGES = ("ends", "all")
ALWAYS = "always"


@dataclass(frozen=True)
class Settings:
    """The keys of `trainer` in the config, validated.

    Attributes:
        epochs: an epoch is one pass over the data or `steps_per_epoch` steps.
        steps_per_epoch: optimisation steps per epoch; None: one pass over the data.
        accumulate: batches per optimisation step (gradient accumulation).
        max_grad_norm: gradient norm above which gradients are clipped; None: no clipping.
        monitor: metric that chooses the best checkpoint, e.g. `val/WER`; None: no best checkpoint.
        patience: evaluations without improvement before training stops; None: no early stopping.
        validate_on: names of the evaluations after each epoch.
        test_on: names of the evaluations after training, with the best checkpoint.
        save_every_steps: steps between checkpoints within an epoch; None: only after each epoch.
        save_in_background: a thread writes checkpoints while training goes on; needs memory for a
            copy of the weights and of the optimizer's state.
        process_timeout: seconds that a process waits for the others.
        log_every_steps: steps between rows of training metrics.
        show_every_epochs: epochs between logged images and audio; 0: never.
        show_stages: `ends` logs the input and the output of the transforms, `all` every stage.
        upload_checkpoints: upload the best checkpoint to the experiment tracker after training.
        max_discarded: consecutive steps with a non-finite loss before training fails.
        average: arguments of `WeightAverage`, `ema_decay` or `last_epochs`, for evaluations and
            checkpoints with averaged weights; None: those of the last step.
        freeze: submodule of the model -> number of first steps in which it is frozen, or `always`.
        log_ids: write the ids of the utterances of each step to ids.jsonl.
        resume_from: folder of the run to resume; None: a new run.

    Raises:
        ValueError: a value is not allowed; names the key, the value and the values allowed.
    """

    epochs: int = 10
    steps_per_epoch: int | None = None
    accumulate: int = 1
    max_grad_norm: float | None = None
    monitor: str | None = None
    patience: int | None = None
    validate_on: Sequence[str] = ()
    test_on: Sequence[str] = ()
    save_every_steps: int | None = None
    save_in_background: bool = True
    process_timeout: float = 1800.0
    log_every_steps: int = 50
    show_every_epochs: int = 1
    show_stages: str = "ends"
    upload_checkpoints: bool = False
    max_discarded: int = 10
    average: Mapping[str, Any] | None = None
    freeze: Mapping[str, int | str] = field(default_factory=dict)
    log_ids: bool = False
    resume_from: str | None = None

    def __post_init__(self) -> None:
        for key in ("epochs", "accumulate", "log_every_steps", "max_discarded"):
            check_whole(f"trainer.{key}", getattr(self, key))
        for key in ("steps_per_epoch", "patience", "save_every_steps"):
            check_whole(f"trainer.{key}", getattr(self, key), optional=True)
        check_whole("trainer.show_every_epochs", self.show_every_epochs, low=0)
        check_number("trainer.max_grad_norm", self.max_grad_norm, optional=True)
        check_choice("trainer.show_stages", self.show_stages, STAGES)
        check_number("trainer.process_timeout", self.process_timeout)
        check_choice("trainer.save_in_background", self.save_in_background, (True, False))
        check_choice("trainer.upload_checkpoints", self.upload_checkpoints, (True, False))
        check_choice("trainer.log_ids", self.log_ids, (True, False))
        for key in ("validate_on", "test_on"):
            names = getattr(self, key)
            if isinstance(names, str) or not all(isinstance(name, str) for name in names or ()):
                raise ValueError(f"trainer.{key}: {shown(names)}; a list, e.g. [val].")
        if self.average is not None:
            check_arguments("config, trainer.average", check_average, self.average)
            average = self.average
            check_average(average.get("ema_decay"), average.get("last_epochs"), self.epochs)
        for part, steps in (self.freeze or {}).items():
            whole = isinstance(steps, int) and not isinstance(steps, bool) and steps >= 0
            if not whole and steps != ALWAYS:
                refuse(f"trainer.freeze.{part}", steps, f"{ALWAYS}, or a whole number from 0 on")

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """Check the values of those keys that are settings.

        Args:
            values: all of `trainer`, where a trainer of one's own may have further keys.

        Raises:
            ValueError: one has a bad value.
        """
        own = {key: value for key, value in values.items() if key in cls.__dataclass_fields__}
        check_arguments("config, trainer", cls, own)
        cls(**own)


def steps_in_epoch(loader: Any, epoch: int, steps_per_epoch: int | None) -> int:
    """Optimisation steps of an epoch.

    Args:
        loader: of the training data.
        epoch: from 0.
        steps_per_epoch: the setting; None: as many as the data has.

    Raises:
        ValueError: neither the setting nor the loader says how many.
    """
    steps = steps_per_epoch or loader.steps(epoch)
    if steps is None:
        raise ValueError("config, trainer.steps_per_epoch: must be given for this dataset.")
    return steps
