"""Masked token prediction (NEST, arXiv 2408.13106; BEST-RQ, arXiv 2202.01855)."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class MaskedPredictionLoss(nn.Module):
    """Cross-entropy of the masked tokens of a batch, as in NEST (arXiv 2408.13106).

    It is one mean over all masked tokens and codebooks, not a mean over utterances. A batch without
    masked tokens, whose loss is NaN in NeMo, has a loss of zero here.
    """

    def forward(
        self,
        logits: Float[Tensor, "N codebook_size num_codebooks"],
        targets: Int[Tensor, "N num_codebooks"],
        **_,
    ) -> dict[str, Tensor]:
        """Cross-entropy of a batch, in nats.

        Args:
            logits: [N, codebook_size, num_codebooks], of the N masked tokens.
            targets: [N, num_codebooks].

        Returns:
            `loss`; `masked_prediction`, the same value detached; and `accuracy`, the fraction of
            the tokens that are predicted correctly.
        """
        count = max(targets.numel(), 1)
        loss = F.cross_entropy(logits.float(), targets, reduction="sum") / count
        accuracy = (logits.detach().argmax(1) == targets).sum() / count
        return {"masked_prediction": loss.detach(), "accuracy": accuracy, "loss": loss}
