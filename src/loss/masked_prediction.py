"""Masked token prediction (NEST, arXiv 2408.13106; BEST-RQ, arXiv 2202.01855)."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class MaskedPredictionLoss(nn.Module):
    """Mean negative log-likelihood of the masked tokens of a batch, averaged over the codebooks.

    It is one mean over all masked tokens, not one for each utterance. A batch without any, which
    gives no number in NeMo, counts zero here.
    """

    def forward(
        self, logits: Float[Tensor, "N C books"], targets: Int[Tensor, "N books"], **_
    ) -> dict[str, Tensor]:
        """The loss as `masked_prediction` and as `loss`, and the share of tokens that are right."""
        count = max(targets.numel(), 1)
        loss = F.cross_entropy(logits.float(), targets, reduction="sum") / count
        right = (logits.detach().argmax(1) == targets).sum() / count
        return {"masked_prediction": loss.detach(), "accuracy": right, "loss": loss}
