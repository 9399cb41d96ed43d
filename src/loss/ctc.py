"""Connectionist temporal classification (Graves et al., 2006)."""

import math

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.utils.lengths import padding_mask
from src.utils.options import check_number

BLANK = 0


class CTCLoss(nn.Module):
    """CTC loss: mean over utterances of -ln p(tokens | audio), summed over all alignments.

    Equations 3 and 12 of Graves et al., "Connectionist Temporal Classification: Labelling
    Unsegmented Sequence Data with Recurrent Neural Networks" (2006); token 0 is the blank. An
    utterance that has fewer frames than tokens and repetitions, and so no alignment, has a loss of
    zero and no gradient, except those of label smoothing, which needs no alignment.

    Args:
        per_label: divide the loss of each utterance by its number of tokens before the mean, so
            that long utterances weigh no more than short ones.
        label_smoothing: weight of the divergence of each frame's distribution from the uniform
            one (Kim et al., arXiv 1711.02212), which keeps blanks from being certain;
            the CTC loss has 1 minus this weight.

    Raises:
        ValueError: `label_smoothing` is not in [0, 1).
    """

    def __init__(self, per_label: bool = True, label_smoothing: float = 0.0):
        super().__init__()
        check_number("CTCLoss, label_smoothing", label_smoothing, 0, 0.999, inclusive=True)
        self.per_label, self.label_smoothing = per_label, label_smoothing

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
            `loss`, and `ctc`, the CTC loss alone, detached.
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
        ctc = self.mean(losses, tokens_length)
        if not self.label_smoothing:
            return {"ctc": ctc.detach(), "loss": ctc}
        beyond = padding_mask(log_probs_length, log_probs.shape[1])
        divergence = -log_probs.float().mean(2) - math.log(log_probs.shape[2])
        smoothing = self.mean(divergence.masked_fill(beyond, 0.0).sum(1), tokens_length)
        loss = (1 - self.label_smoothing) * ctc + self.label_smoothing * smoothing
        return {"ctc": ctc.detach(), "loss": loss}

    def mean(self, losses: Tensor, tokens_length: Tensor) -> Tensor:
        """Mean over utterances of losses [B], which are divided by the number of tokens first."""
        return (losses / tokens_length.clamp(min=1) if self.per_label else losses).mean()
