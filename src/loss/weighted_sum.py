"""Several losses with weights."""

from collections.abc import Mapping

from torch import Tensor, nn

from src.utils.batch import check_keys
from src.utils.options import check_number


class WeightedSum(nn.Module):
    """The weighted sum of named losses.

    Args:
        losses: name -> loss, each of which returns a dict with `loss`.
        weights: name -> its weight; those that aren't named have a weight of 1.

    Raises:
        ValueError: there is no loss, one is called `loss`, or a weight belongs to none or is
            negative.
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float] | None = None):
        super().__init__()
        weights = dict(weights or {})
        if not losses or "loss" in losses:
            raise ValueError(f"WeightedSum: losses {list(losses)}; wanted names other than 'loss'.")
        for name in weights:
            if name not in losses:
                raise ValueError(
                    f"WeightedSum: weight of '{name}', no loss of {', '.join(losses)}."
                )
            check_number(f"WeightedSum: weight of '{name}'", weights[name], inclusive=True)
        self.losses = nn.ModuleDict(losses)
        self.weights = {name: float(weights.get(name, 1.0)) for name in losses}

    def forward(self, **batch) -> dict[str, Tensor]:
        """Each loss under its name, unweighted, and their weighted sum `loss`.

        Raises:
            ValueError: the batch lacks a key that one of them needs.
        """
        for name, loss in self.losses.items():
            check_keys(f"loss.losses.{name}", loss, loss.forward, batch)
        parts = {name: loss(**batch)["loss"] for name, loss in self.losses.items()}
        total = sum(self.weights[name] * value for name, value in parts.items())
        return {**parts, "loss": total}  # type: ignore[dict-item]
