"""CTC of separated sources, each with its own text."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.loss.ctc import BLANK, CTCLoss
from src.loss.pit import apply_permutation, best_permutation, pairwise_loss


class SourceCTC(nn.Module):
    """CTC loss of each estimate for the text of the source that it is of.

    The sources are those of the best permutation by SI-SDR, as of `PermutationInvariantSiSdr`: the
    texts have no say in it. Silent sources have no loss.

    Args:
        per_label: of `CTCLoss`.
    """

    def __init__(self, per_label: bool = True):
        super().__init__()
        self.ctc = CTCLoss(per_label)

    def forward(
        self,
        log_probs: Float[Tensor, "B S F V"],
        log_probs_length: Int[Tensor, " B"],
        source_tokens: Int[Tensor, "B S L"],
        estimates: Float[Tensor, "B S T"],
        sources: Float[Tensor, "B S T"],
        sources_length: Int[Tensor, " B"],
        audio: Float[Tensor, "B T"],
        permutation: Int[Tensor, "B S"] | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """CTC loss of a batch of mixtures.

        Args:
            log_probs: log-probabilities of the tokens in each estimate [B, S, F, V].
            log_probs_length: [B], in frames.
            source_tokens: targets of each source [B, S, L], padded by blanks.
            estimates: [B, S, T], in any order without `permutation`.
            sources: references [B, S, T].
            sources_length: [B], in samples.
            audio: mixtures [B, T].
            permutation: by which estimates and log-probabilities have been put in the order of the
                sources; None finds the best one.

        Returns:
            `loss`, the mean over all sources that aren't silent; 0 if all are.
        """
        if permutation is None:
            with torch.no_grad():
                pairs = pairwise_loss(estimates, sources, audio, sources_length)
            log_probs = apply_permutation(log_probs, best_permutation(pairs))
        speaks = sources.abs().amax(2) > 0
        if not speaks.any():
            return {"loss": 0.0 * log_probs.sum()}
        tokens = source_tokens[speaks]
        parts = self.ctc(
            log_probs=log_probs[speaks],
            log_probs_length=log_probs_length.unsqueeze(1).expand_as(speaks)[speaks],
            tokens=tokens,
            tokens_length=(tokens != BLANK).sum(1),
        )
        return {"loss": parts["loss"]}
