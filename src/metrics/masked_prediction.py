"""How well masked tokens are predicted, and whether the tokens are worth predicting."""

import logging
import math

import torch
from torch import Tensor

from src.metrics.base import Metric, ratio

logger = logging.getLogger(__name__)


class MaskedAccuracy(Metric):
    """Share of masked tokens whose best class is right; `majority` is what blind guessing gives.

    The majority's figure is the share of the most frequent class of each codebook among the masked
    tokens: a model that only learnt which tokens are frequent has no more than that.
    """

    figures = ("", "majority")

    def update(self, logits: Tensor, targets: Tensor, **batch) -> None:
        """Add a batch.

        Args:
            logits: [N, classes, books].
            targets: [N, books].
            batch: swallowed.
        """
        self.add("right", float((logits.argmax(1) == targets).sum()))
        self.add("all", targets.numel())
        for book in range(targets.shape[1]):
            add_counts(self, f"book {book}", targets[:, book])

    def compute(self) -> dict[str, float]:
        """Both shares."""
        books = {name.split(",")[0] for name in self.terms if name.startswith("book")}
        best = sum(max(counts(self, book).values()) for book in books)
        count = self.total("all")
        return {"": ratio(self.total("right"), count), "majority": ratio(best, count)}


class MaskedLoss(Metric):
    """Mean negative log-likelihood of all masked tokens of a split, in nats."""

    def update(self, masked_prediction: Tensor, targets: Tensor, **batch) -> None:
        """Add a batch's mean, as often as it has tokens."""
        self.add("sum", float(masked_prediction) * targets.numel())
        self.add("tokens", targets.numel())

    def compute(self) -> dict[str, float]:
        """The mean."""
        return {"": ratio(self.total("sum"), self.total("tokens"))}


class MaskedShare(Metric):
    """Share of the valid frames that are masked."""

    def update(self, mask: Tensor, mask_length: Tensor, **batch) -> None:
        """Add a batch."""
        self.add("masked", float(mask.sum()))
        self.add("all", float(mask_length.sum()))

    def compute(self) -> dict[str, float]:
        """The share."""
        return {"": ratio(self.total("masked"), self.total("all"))}


class CodebookUse(Metric):
    """How many codes the quantizer uses, and how evenly: over all valid tokens of a split.

    `coverage` is the share of codes that are used at all, `perplexity` exp(entropy), the number of
    codes that would be used if all used ones were as frequent. Both are means over the codebooks.

    Args:
        classes: codes of a codebook.
        collapsed_below: a perplexity below this share of the classes, or of the tokens where these
            are fewer, is warned of.
    """

    figures = ("coverage", "perplexity")

    def __init__(self, classes: int, collapsed_below: float = 0.01):
        super().__init__()
        self.classes, self.collapsed_below = classes, collapsed_below

    def update(self, tokens: Tensor, tokens_length: Tensor, **batch) -> None:
        """Add a batch.

        Args:
            tokens: [B, books, T].
            tokens_length: [B].
            batch: swallowed.
        """
        for item, length in zip(tokens, tokens_length.tolist(), strict=True):
            for book, own in enumerate(item):
                add_counts(self, f"book {book}", own[:length])

    def compute(self) -> dict[str, float]:
        """Coverage and perplexity; logs a warning if the codebook has collapsed."""
        books = sorted({name.split(",")[0] for name in self.terms})
        found = [list(counts(self, book).values()) for book in books]
        coverage = mean([len(own) / self.classes for own in found])
        perplexity = mean([math.exp(entropy(own)) for own in found])
        most = min([self.classes, *(sum(own) for own in found)])  # that can be reached
        if most > 2 and perplexity < max(2.0, self.collapsed_below * most):
            logger.warning(
                "The codebook has collapsed: a perplexity of %.1f of %d codes. Tokens say little "
                "about the speech; look at the features.",
                perplexity,
                self.classes,
            )
        return {"coverage": coverage, "perplexity": perplexity}


def add_counts(metric: Metric, name: str, tokens: Tensor) -> None:
    """Note how often each class stands in tokens [N]."""
    classes, found = torch.unique(tokens, return_counts=True)
    for token, count in zip(classes.tolist(), found.tolist(), strict=True):
        metric.add(f"{name},{token}", count)


def counts(metric: Metric, name: str) -> dict[str, float]:
    """Class -> how often it was noted under a name."""
    return {key: metric.total(key) for key in metric.terms if key.startswith(f"{name},")}


def entropy(values: list[float]) -> float:
    """Of a distribution given by counts, in nats."""
    total = sum(values)
    return -math.fsum(value / total * math.log(value / total) for value in values)


def mean(values: list[float]) -> float:
    """The mean, 0 of nothing."""
    return math.fsum(values) / len(values) if values else 0.0
