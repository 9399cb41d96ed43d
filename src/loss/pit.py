"""Permutation-invariant training of source separation (Yu et al., arXiv 1607.00325)."""

from itertools import permutations

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from src.utils.si_sdr import si_sdr, zero_mean

EXHAUSTIVE = 3  # largest number of sources of which all permutations are compared, on the device


def best_permutation(losses: Tensor) -> Tensor:
    """The permutation of the estimates with the smallest sum of losses, for each item.

    All permutations are compared for up to three sources; for more, the Hungarian algorithm (Kuhn,
    1955) finds the best one on the CPU.

    Args:
        losses: [B, S, S], of estimate i for source j.

    Returns:
        int64 [B, S]: the index of the estimate that belongs to each source.
    """
    size = losses.shape[1]
    if size > EXHAUSTIVE:
        pairs = losses.detach().double().cpu().transpose(1, 2)  # [B, source, estimate]
        pairs = pairs.nan_to_num(nan=0.0, posinf=1e9, neginf=-1e9)
        best = torch.tensor([linear_sum_assignment(item)[1].tolist() for item in pairs.numpy()])
        return best.to(losses.device)
    candidates = torch.tensor(list(permutations(range(size))), device=losses.device)
    sources = torch.arange(size, device=losses.device)
    return candidates[losses[:, candidates, sources].sum(2).argmin(1)]


def apply_permutation(values: Tensor, permutation: Tensor) -> Tensor:
    """Values of the estimates in the order of the sources.

    Args:
        values: [B, S, ...], one for each estimate.
        permutation: [B, S], the index of the estimate that belongs to each source, from
            `best_permutation`.

    Returns:
        [B, S, ...], one for each source.
    """
    items = torch.arange(len(permutation), device=permutation.device).unsqueeze(1)
    return values[items, permutation]


def pairwise_si_sdr(estimates: Tensor, sources: Tensor, length: Tensor) -> Tensor:
    """SI-SDR of each estimate for each source, in dB.

    Args:
        estimates, sources: [B, S, T].
        length: [B], in samples.

    Returns:
        [B, S, S], of estimate i for source j.

    Raises:
        ValueError: there are more or fewer estimates than sources.
    """
    if estimates.shape[1] != sources.shape[1]:
        raise ValueError(
            f"The model separates {estimates.shape[1]} speakers (model.num_speakers), the data "
            f"have {sources.shape[1]}."
        )
    return si_sdr(estimates.unsqueeze(2), sources.unsqueeze(1), length)


def negative_si_sdr(
    values: Tensor,
    estimates: Tensor,
    sources: Tensor,
    mixture: Tensor,
    length: Tensor,
    floor: float = 30.0,
) -> Tensor:
    """Negative SI-SDR in dB, with the level of the estimate for silent sources.

    For a silent source, whose SI-SDR is undefined, it is the energy of the estimate relative to the
    mixture with a soft threshold (as in Wisdom et al., arXiv 2011.00803),

        10 log10(|e|^2 / |x|^2 + 10^(-floor / 10)),

    which is finite and has a gradient towards silence.

    Args:
        values: SI-SDR [B, S, S] of estimate i for source j, or [B, S] of each estimate for the
            source of the same index.
        estimates, sources: [B, S, T].
        mixture: [B, T].
        length: [B], in samples.
        floor: level in dB below the mixture that counts as silence.

    Returns:
        The shape of `values`.
    """
    energy = zero_mean(estimates, length).square().sum(2)
    mixture_energy = zero_mean(mixture, length).square().sum(1)[:, None] + 1e-8
    level = 10 * torch.log10(energy / mixture_energy + 10 ** (-floor / 10))
    silent = zero_mean(sources, length).square().sum(2) == 0
    if values.ndim == 3:
        level, silent = level.unsqueeze(2), silent.unsqueeze(1)
    return torch.where(silent, level, -values)


def pairwise_loss(
    estimates: Tensor, sources: Tensor, mixture: Tensor, length: Tensor, floor: float = 30.0
) -> Tensor:
    """`negative_si_sdr` of each estimate for each source, in dB.

    Args:
        estimates, sources: [B, S, T].
        mixture: [B, T].
        length: [B], in samples.
        floor: level in dB below the mixture that counts as silence.

    Returns:
        [B, S, S], of estimate i for source j.

    Raises:
        ValueError: there are more or fewer estimates than sources.
    """
    values = pairwise_si_sdr(estimates, sources, length)
    return negative_si_sdr(values, estimates, sources, mixture, length, floor)


def diagonal(values: Tensor) -> Tensor:
    """Values [B, S] of each estimate for the source of the same index, out of all [B, S, S]."""
    index = torch.arange(values.shape[1], device=values.device)
    return values[:, index, index]


class PermutationInvariantSiSdr(nn.Module):
    """Negative SI-SDR in dB with utterance-level permutation-invariant training.

    The loss of an item is that of the best permutation of its estimates (uPIT, Kolbaek et al.,
    arXiv 1703.06284). For silent sources it is the level of the estimate relative to the mixture
    (Wisdom et al., arXiv 2011.00803).

    Args:
        threshold: SI-SDR in dB above which items are excluded from the mean, so that well
            separated items don't dominate it; None: no item is excluded.
        floor: level in dB below the mixture that counts as silence, for silent sources.
    """

    def __init__(self, threshold: float | None = None, floor: float = 30.0):
        super().__init__()
        self.threshold, self.floor = threshold, floor

    def forward(
        self,
        estimates: Float[Tensor, "B S T"],
        sources: Float[Tensor, "B S T"],
        sources_length: Int[Tensor, " B"],
        audio: Float[Tensor, "B T"],
        permutation: Int[Tensor, "B S"] | None = None,
        estimates_si_sdr: Float[Tensor, "B S"] | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Negative SI-SDR of a batch.

        Args:
            estimates: [B, S, T], in any order without `permutation`.
            sources: references [B, S, T].
            sources_length: [B], in samples.
            audio: mixtures [B, T].
            permutation: by which the estimates have been put in the order of the sources; None
                finds the best one.
            estimates_si_sdr: of estimates in that order, in dB; None computes it.

        Returns:
            `loss`, the mean in dB over the items that aren't excluded; 0 if all are.
        """
        signals = (estimates, sources, audio, sources_length)
        if permutation is None:
            pairs = pairwise_loss(*signals, self.floor)
            own = diagonal(apply_permutation(pairs, best_permutation(pairs)))
        else:
            if estimates_si_sdr is None:
                estimates_si_sdr = si_sdr(estimates, sources, sources_length)
            own = negative_si_sdr(estimates_si_sdr, *signals, self.floor)
        losses = own.mean(1)
        weights = torch.ones_like(losses)
        if self.threshold is not None:
            weights = (losses > -self.threshold).to(losses.dtype)
        return {"loss": (losses * weights).sum() / weights.sum().clamp(min=1)}
