"""Metrics of masked token prediction: accuracy, loss, masked fraction, use of the codebooks."""

import logging
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from src.metrics.base import Metric
from src.utils.options import check_number, check_whole, shown

logger = logging.getLogger(__name__)


class MaskedMean(Metric):
    """A mean over masked tokens, whose number is a column of the table of utterances."""

    def fraction(self, score: float, row: Mapping[str, str]) -> tuple[float, float]:
        """Sum over the masked tokens of an utterance, and their number.

        Args:
            score: the mean.
            row: with the column `masked`.

        Raises:
            ValueError: it is missing, or no number.
        """
        cell = row.get("masked") or ""
        if not cell.isdecimal():
            raise ValueError(f"masked is {shown(cell)}, wanted the number of masked tokens.")
        return score * int(cell), float(cell)


class MaskedAccuracy(MaskedMean):
    """Fraction of masked tokens that are predicted correctly.

    The further value `majority` is the accuracy of always predicting the most frequent token of
    each codebook among the masked ones, as a baseline.
    """

    values = ("", "majority")
    higher_is_better = True

    def update(
        self, logits: Tensor, targets: Tensor, masked_tokens: Tensor, **_
    ) -> list[float | None]:
        """Add a batch.

        Args:
            logits: [N, codebook_size, num_codebooks], of the N masked tokens.
            targets: [N, num_codebooks].
            masked_tokens: [B, T'], True at the N masked tokens.

        Returns:
            The accuracy of each utterance, None where no token is masked.
        """
        for codebook in range(targets.shape[1]):
            add_counts(self, f"codebook {codebook}", targets[:, codebook])
        correct = (logits.argmax(1) == targets).double()
        return add_means(self, correct, masked_tokens)

    def compute(self) -> dict[str, float]:
        """The accuracy and that of the majority baseline; none if no token was masked."""
        codebooks = {name.split(",")[0] for name in self.terms if name.startswith("codebook")}
        majority = sum(max(counts(self, codebook)) for codebook in codebooks)
        tokens = self.total("tokens")
        if not tokens:
            return {}
        return {"": self.total("sum") / tokens, "majority": majority / tokens}


class MaskedLoss(MaskedMean):
    """Mean negative log-likelihood of the masked tokens, in nats."""

    higher_is_better = False

    def update(
        self, logits: Tensor, targets: Tensor, masked_tokens: Tensor, **_
    ) -> list[float | None]:
        """Add a batch.

        Args:
            logits: [N, codebook_size, num_codebooks], of the N masked tokens.
            targets: [N, num_codebooks].
            masked_tokens: [B, T'], True at the N masked tokens.

        Returns:
            The mean over the tokens of each utterance, None where no token is masked.
        """
        losses = F.cross_entropy(logits.float(), targets, reduction="none")
        return add_means(self, losses.double(), masked_tokens)

    def compute(self) -> dict[str, float]:
        """The mean over all masked tokens; none if there was none."""
        tokens = self.total("tokens")
        return {"": self.total("sum") / tokens} if tokens else {}


class MaskedFraction(Metric):
    """Fraction of the frames that are masked, without padding."""

    def update(self, ssl_mask: Tensor, ssl_mask_length: Tensor, **_) -> list[float | None]:
        """Add a batch.

        Args:
            ssl_mask: [B, T], True at masked frames.
            ssl_mask_length: [B], in frames.

        Returns:
            The masked fraction of each utterance, None for one without frames.
        """
        scores: list[float | None] = []
        masked = ssl_mask.sum(1).tolist()
        for count, length in zip(masked, ssl_mask_length.tolist(), strict=True):
            self.add("masked", count)
            self.add("frames", length)
            scores.append(count / length if length else None)
        return scores

    def compute(self) -> dict[str, float]:
        """The masked fraction of all frames; none if there was none."""
        frames = self.total("frames")
        return {"": self.total("masked") / frames} if frames else {}


class CodebookUse(Metric):
    """How many codes the quantizer uses, and how evenly, over all tokens of an evaluation.

    `coverage` is the fraction of codes that are used at all. `perplexity` is exp(entropy), the
    number of codes that would give the same entropy if all were equally frequent. Both are means
    over the codebooks.

    Args:
        codebook_size: number of codes in a codebook.
        collapsed_below: fraction of the codebook size, or of the number of tokens where that is
            smaller; a perplexity below it is logged as a collapse.
    """

    values = ("coverage", "perplexity")

    def __init__(self, codebook_size: int, collapsed_below: float = 0.01):
        super().__init__()
        check_whole("CodebookUse.codebook_size", codebook_size, low=2)
        check_number("CodebookUse.collapsed_below", collapsed_below, 0, 1, inclusive=True)
        self.codebook_size, self.collapsed_below = codebook_size, collapsed_below

    def update(self, tokens: Tensor, tokens_length: Tensor, **_) -> None:
        """Add a batch; a codebook is used by a corpus, so utterances have no scores.

        Args:
            tokens: [B, num_codebooks, T'].
            tokens_length: [B].
        """
        for item, length in zip(tokens, tokens_length.tolist(), strict=True):
            for codebook, codes in enumerate(item):
                add_counts(self, f"codebook {codebook}", codes[:length])

    def compute(self) -> dict[str, float]:
        """Coverage and perplexity; logs a warning if the codebooks have collapsed.

        Empty without tokens.
        """
        codebooks = sorted({name.split(",")[0] for name in self.terms})
        if not codebooks:
            return {}
        used = [counts(self, codebook) for codebook in codebooks]
        coverage = mean([len(own) / self.codebook_size for own in used])
        perplexity = mean([math.exp(entropy(own)) for own in used])
        highest = min([self.codebook_size, *(sum(own) for own in used)])
        if highest > 2 and perplexity < max(2.0, self.collapsed_below * highest):
            logger.warning(
                "The codebook has collapsed: a perplexity of %.1f of %d codes. The tokens carry "
                "little information about the speech; check the features.",
                perplexity,
                self.codebook_size,
            )
        return {"coverage": coverage, "perplexity": perplexity}


def add_means(metric: Metric, values: Tensor, masked_tokens: Tensor) -> list[float | None]:
    """Add values of masked tokens to a metric's `sum` and `tokens`.

    Args:
        metric: gets one term of each sum for every utterance.
        values: [N, num_codebooks], of the N masked tokens, utterance by utterance.
        masked_tokens: [B, T'], True at the N masked tokens.

    Returns:
        The mean of each utterance, None where no token is masked.
    """
    scores: list[float | None] = []
    for own in values.split(masked_tokens.sum(1).tolist()):
        total = float(own.sum())
        metric.add("sum", total)
        metric.add("tokens", own.numel())
        scores.append(total / own.numel() if own.numel() else None)
    return scores


def add_counts(metric: Metric, name: str, tokens: Tensor) -> None:
    """Add how often each code occurs in tokens [N] to a metric's sums `<name>,<code>`."""
    codes, numbers = torch.unique(tokens, return_counts=True)
    for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
        metric.add(f"{name},{code}", number)


def counts(metric: Metric, name: str) -> list[float]:
    """How often each code that occurs was added under a name by `add_counts`."""
    return [metric.total(key) for key in metric.terms if key.startswith(f"{name},")]


def entropy(values: list[float]) -> float:
    """Entropy in nats of a distribution given by counts."""
    total = sum(values)
    return -math.fsum(value / total * math.log(value / total) for value in values)


def mean(values: list[float]) -> float:
    """Mean of a list that isn't empty."""
    return math.fsum(values) / len(values)
