"""Which figure decides what the best checkpoint is."""


class Monitor:
    """Watches one figure.

    Args:
        rule: `min NAME` or `max NAME`, e.g. `min val/WER`; None keeps no best checkpoint.
        patience: evaluations without a better figure before training stops; None: never.
        names: the figures that exist.

    Raises:
        ValueError: the rule isn't of that form or names no figure that exists.
    """

    def __init__(self, rule: str | None, patience: int | None, names: list[str]):
        self.sign, self.name = 1, None  # type: int, str | None
        if rule:
            self.sign, self.name = parse_rule(rule)
        if self.name is not None and self.name not in names:
            raise ValueError(
                f"trainer.monitor: no figure is called '{self.name}'; there are {', '.join(names)}."
            )
        if patience is not None and self.name is None:
            raise ValueError("trainer.patience needs trainer.monitor, e.g. 'min val/WER'.")
        self.patience = patience
        self.best: float | None = None
        self.evaluations_since_best = 0

    def is_better(self, figures: dict[str, float]) -> bool:
        """Take note of an evaluation; whether it is the best so far."""
        if self.name is None:
            return False
        value = figures[self.name]
        if self.best is None or self.sign * value < self.sign * self.best:
            self.best, self.evaluations_since_best = value, 0
            return True
        self.evaluations_since_best += 1
        return False

    def out_of_patience(self) -> bool:
        """Whether training should stop early."""
        return self.patience is not None and self.evaluations_since_best >= self.patience

    def state_dict(self) -> dict[str, float | int | None]:
        """For the checkpoint."""
        return {"best": self.best, "evaluations_since_best": self.evaluations_since_best}

    def load_state_dict(self, state: dict) -> None:
        """From the checkpoint."""
        self.best = state["best"]
        self.evaluations_since_best = state["evaluations_since_best"]


def parse_rule(rule: str) -> tuple[int, str]:
    """`min val/WER` -> (1, 'val/WER'), `max ...` -> (-1, ...)."""
    direction, _, name = rule.partition(" ")
    if direction not in ("min", "max") or not name:
        raise ValueError(f"trainer.monitor: '{rule}' is not of the form 'min NAME' or 'max NAME'.")
    return (1 if direction == "min" else -1), name.strip()
