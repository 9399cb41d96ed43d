"""Connectionist temporal classification (Graves et al., 2006)."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

BLANK = 0


class CTCLoss(nn.Module):
    """CTC loss: mean over utterances of -ln p(tokens | audio), summed over all alignments.

    Equations 3 and 12 of Graves et al., "Connectionist Temporal Classification: Labelling
    Unsegmented Sequence Data with Recurrent Neural Networks" (2006); token 0 is the blank. An
    utterance that has fewer frames than tokens and repetitions, and so no alignment, has a loss of
    zero and no gradient.

    Args:
        per_label: divide the loss of each utterance by its number of tokens before the mean, so
            that long utterances weigh no more than short ones.
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
        """CTC loss of a batch.

        Args:
            log_probs: log-probabilities of the tokens in each frame [B, T, V].
            log_probs_length: [B], in frames.
            tokens: targets [B, L], without blanks.
            tokens_length: [B].

        Returns:
            `loss`, and `ctc`, the same value detached.
        """
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
