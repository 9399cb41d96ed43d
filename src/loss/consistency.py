"""Consistency between two augmented views of an utterance (CR-CTC)."""

import logging

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.utils.lengths import padding_mask

logger = logging.getLogger(__name__)


class ConsistencyLoss(nn.Module):
    """Divergence between the CTC distributions of two differently masked copies of an utterance.

    CR-CTC (Yao et al., arXiv 2410.05101, equation 3): for each frame, the Kullback-Leibler
    divergence of the distribution of one copy from that of the other, which is taken as a constant
    target; summed over the frames, averaged over the two directions. Add it to the CTC loss with a
    weight of 0.2, and make the copies by the transform `Views`. Without copies, as in evaluations,
    the loss is 0; in training, that is logged once as a warning.

    Args:
        per_label: divide by the number of tokens of the utterance before the mean over
            utterances, as `CTCLoss` does, so that their ratio is that of the paper.
    """

    def __init__(self, per_label: bool = True):
        super().__init__()
        self.per_label, self.warned = per_label, False

    def forward(
        self,
        log_probs: Float[Tensor, "B T V"],
        log_probs_length: Int[Tensor, " B"],
        tokens_length: Int[Tensor, " B"],
        views: int = 1,
        **_,
    ) -> dict[str, Tensor]:
        """Consistency loss of a batch.

        Args:
            log_probs: log-probabilities of the tokens in each frame [B, T, V], first copies
                before second ones.
            log_probs_length: [B], in frames.
            tokens_length: [B].
            views: copies of each utterance: 2, or 1 for a loss of 0.

        Returns:
            `loss`.

        Raises:
            ValueError: there are more than two copies.
        """
        if views == 1:
            if self.training and not self.warned:
                logger.warning(
                    "ConsistencyLoss: 0, since there is only one view of each utterance; "
                    "transforms=asr_views makes two."
                )
                self.warned = True
            return {"loss": log_probs.sum() * 0.0}
        if views != 2:
            raise ValueError(f"ConsistencyLoss: {views} views of each utterance; wanted 2.")
        log_probs = log_probs.float()
        other = log_probs.detach().roll(len(log_probs) // 2, dims=0)
        divergence = F.kl_div(log_probs, other, reduction="none", log_target=True).sum(2)
        beyond = padding_mask(log_probs_length, log_probs.shape[1])
        losses = divergence.masked_fill(beyond, 0.0).sum(1)
        if self.per_label:
            losses = losses / tokens_length.clamp(min=1)
        return {"loss": losses.mean()}
