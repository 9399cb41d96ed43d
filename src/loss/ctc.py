"""Connectionist temporal classification (Graves et al., 2006)."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

BLANK = 0


class CTCLoss(nn.Module):
    """Negative log-likelihood of the labels over all their alignments, the mean over utterances.

    Args:
        per_label: divide each utterance's loss by its number of labels first, so that a long
            utterance weighs no more than a short one.

    Impossible alignments (fewer frames than labels and repeats) count 0 and give no gradient;
    the dataset's filter drops such rows beforehand and says so.
    """

    def __init__(self, per_label: bool = True):
        super().__init__()
        self.per_label = per_label

    def forward(
        self,
        log_probs: Float[Tensor, "B T V"],
        log_probs_length: Int[Tensor, " B"],
        tokens: Int[Tensor, "B L"],
        tokens_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """The loss of a batch, as `ctc` and as `loss`."""
        losses = F.ctc_loss(
            log_probs.float().transpose(0, 1),
            tokens,
            log_probs_length,
            tokens_length,
            blank=BLANK,
            reduction="none",
            zero_infinity=True,
        )
        if self.per_label:
            losses = losses / tokens_length.clamp(min=1)
        loss = losses.mean()
        return {"ctc": loss.detach(), "loss": loss}
