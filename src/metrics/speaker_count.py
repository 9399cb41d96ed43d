"""Metrics of separators that find out themselves how many speak."""

import math
from typing import Any

from torch import Tensor

from src.metrics.base import MeanScore
from src.metrics.separation import speaker_counts, speaking

LOWEST = -80.0  # dB, about what is left of rounding


class SpeakerCountAccuracy(MeanScore):
    """How often as many outputs are active as people speak: 1 or 0 for each utterance.

    Further values are the accuracies for each number of speakers; their suffix is the number.
    """

    higher_is_better = True

    def update(self, sources: Tensor, rows: list[dict[str, Any]], **_) -> list[float | None]:
        """Add a batch.

        Args:
            sources: references [B, S, T], of which silent ones don't count.
            rows: of each utterance `num_active`, how many outputs are active.

        Returns:
            1 where the number is right, else 0.
        """
        counts = speaker_counts(sources)
        active = [row["num_active"] for row in rows]
        scores = [float(own == count) for own, count in zip(active, counts, strict=True)]
        return self.add_scores(scores, counts)


class SilentLevel(MeanScore):
    """Level of the outputs that should be silent, relative to the mixture, in dB.

    The mean over the outputs for silent sources, each at least -80 dB; without such a source an
    utterance has no score. Further values are the means for each number of speakers.
    """

    higher_is_better = False

    def update(self, sources: Tensor, signal_products: Tensor, **_) -> list[float | None]:
        """Add a batch.

        Args:
            sources: references [B, S, T].
            signal_products: scalar products of the mixture and the estimates, which are in the
                order of the sources, [B, 1 + S, 1 + S].

        Returns:
            The level of each utterance, None if no source or the whole mixture is silent.
        """
        energies = signal_products.diagonal(dim1=1, dim2=2).tolist()
        silent = (~speaking(sources)).tolist()
        scores = [silent_level(*item) for item in zip(energies, silent, strict=True)]
        return self.add_scores(scores, speaker_counts(sources))


def silent_level(energies: list[float], silent: list[bool]) -> float | None:
    """Mean level in dB of the outputs that should be silent.

    Args:
        energies: of the mixture and of each output.
        silent: whether the source of each output is silent.
    """
    mixture, *own = energies
    if mixture <= 0 or not any(silent):
        return None
    chosen = [energy / mixture for energy, quiet in zip(own, silent, strict=True) if quiet]
    levels = [max(LOWEST, 10 * math.log10(max(fraction, 1e-30))) for fraction in chosen]
    return sum(levels) / len(levels)
