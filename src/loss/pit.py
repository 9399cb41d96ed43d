"""Permutation-invariant training of source separation (Yu et al., arXiv 1607.00325)."""

import math
from itertools import permutations

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from src.utils.lengths import without_padding
from src.utils.options import check_number
from src.utils.si_sdr import EPS, si_sdr, zero_mean

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


def check_number_of_sources(estimates: Tensor, sources: Tensor) -> None:
    """Raise ValueError if there are more or fewer estimates than sources, both [B, S, T]."""
    if estimates.shape[1] != sources.shape[1]:
        raise ValueError(
            f"The model separates {estimates.shape[1]} speakers (model.num_speakers), the data "
            f"have {sources.shape[1]}."
        )


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
    check_number_of_sources(estimates, sources)
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
    estimates, sources = zero_mean(estimates, length), zero_mean(sources, length)
    return with_silence(-values, estimates, sources, zero_mean(mixture, length), floor)


def with_silence(
    losses: Tensor, estimates: Tensor, sources: Tensor, mixture: Tensor, floor: float
) -> Tensor:
    """Losses in dB, replaced for silent sources by the level of the estimate.

    It is the energy of the estimate relative to the mixture with a soft threshold (as in Wisdom et
    al., arXiv 2011.00803),

        10 log10(|e|^2 / |x|^2 + 10^(-floor / 10)),

    which is finite and has a gradient towards silence.

    Args:
        losses: [B, S, S], of estimate i for source j, or [B, S], of each estimate for the source of
            the same index.
        estimates, sources: [B, S, T], zero beyond their lengths.
        mixture: [B, T], zero beyond its length.
        floor: level in dB below the mixture that counts as silence.

    Returns:
        The shape of `losses`.
    """
    energy = estimates.square().sum(2)
    mixture_energy = mixture.square().sum(1)[:, None] + EPS
    level = 10 * torch.log10(energy / mixture_energy + 10 ** (-floor / 10))
    silent = sources.square().sum(2) == 0
    if losses.ndim == 3:
        level, silent = level.unsqueeze(2), silent.unsqueeze(1)
    return torch.where(silent, level, losses)


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


def squared_errors(estimates: Tensor, sources: Tensor) -> Tensor:
    """Energy of the difference of each estimate and each source.

    Args:
        estimates, sources: [B, S, T], zero beyond their lengths.

    Returns:
        [B, S, S], of estimate i for source j.

    Raises:
        ValueError: there are more or fewer estimates than sources.
    """
    check_number_of_sources(estimates, sources)
    return (estimates.unsqueeze(2) - sources.unsqueeze(1)).square().sum(3)


def pairwise_snr_loss(
    estimates: Tensor,
    sources: Tensor,
    mixture: Tensor,
    length: Tensor,
    max_snr: float = 30.0,
    floor: float = 30.0,
) -> Tensor:
    """Negative SNR of each estimate for each source with a soft threshold, in dB.

        10 log10(|e - s|^2 / |s|^2 + 10^(-max_snr / 10))

    The loss for silent sources is the level of the estimate.

    Args:
        estimates, sources: [B, S, T].
        mixture: [B, T].
        length: [B], in samples.
        max_snr: SNR in dB beyond which there is little to gain.
        floor: level in dB below the mixture that counts as silence.

    Returns:
        [B, S, S], of estimate i for source j.

    Raises:
        ValueError: there are more or fewer estimates than sources.
    """
    estimates, sources, mixture = (
        without_padding(signal, length) for signal in (estimates, sources, mixture)
    )
    errors = squared_errors(estimates, sources)
    relative = errors / (sources.square().sum(2).unsqueeze(1) + EPS)
    losses = 10 * torch.log10(relative + 10 ** (-max_snr / 10))
    return with_silence(losses, estimates, sources, mixture, floor)


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


class PermutationInvariantSnr(nn.Module):
    """Negative thresholded SNR in dB with permutation-invariant training, for any number of voices.

    Sources are scored by the SNR up to a soft threshold, silent ones by the level of the estimate
    relative to the mixture (Wisdom et al., "What's All the FUSS About Free Universal Sound
    Separation Data?", arXiv 2011.00803). Unlike SI-SDR, which leaves the scale of the estimates
    free, the SNR fixes it, so that the level of an output says whether somebody speaks. Silence is
    worth as much as a good estimate, so a network that can't separate yet may go silent; see
    `PermutationInvariantSaSdr`.

    Args:
        max_snr: SNR in dB at the soft threshold, so that well separated items don't dominate.
        floor: level in dB below the mixture that counts as silence, for silent sources.
    """

    def __init__(self, max_snr: float = 30.0, floor: float = 30.0):
        super().__init__()
        check_number("loss.max_snr", max_snr, low=-math.inf)
        check_number("loss.floor", floor, low=-math.inf)
        self.max_snr, self.floor = max_snr, floor

    def forward(
        self,
        estimates: Float[Tensor, "B S T"],
        sources: Float[Tensor, "B S T"],
        sources_length: Int[Tensor, " B"],
        audio: Float[Tensor, "B T"],
        **_,
    ) -> dict[str, Tensor]:
        """Negative SNR of a batch.

        Args:
            estimates: [B, S, T], in any order: the permutation is the best one for this loss.
            sources: references [B, S, T], zero where somebody is missing.
            sources_length: [B], in samples.
            audio: mixtures [B, T].

        Returns:
            `loss`, the mean in dB over sources and items.
        """
        signals = (estimates, sources, audio, sources_length)
        pairs = pairwise_snr_loss(*signals, self.max_snr, self.floor)
        return {"loss": diagonal(apply_permutation(pairs, best_permutation(pairs))).mean()}


class PermutationInvariantSaSdr(nn.Module):
    """Negative source-aggregated SDR in dB with permutation-invariant training.

    The errors of all estimates of an item are added before the logarithm is taken (SA-SDR, von
    Neumann et al., arXiv 2110.15581), with a soft threshold:

        10 log10(sum |e - s|^2 / sum |s|^2 + 10^(-max_sdr / 10))

    Silent sources are scored like any other: their estimates count by their energy, so that they
    matter as much as the errors of the voices do. The scale of the estimates is fixed, so that the
    level of an output says whether somebody speaks.

    Args:
        max_sdr: SDR in dB at the soft threshold, so that well separated items don't dominate.
    """

    def __init__(self, max_sdr: float = 30.0):
        super().__init__()
        check_number("loss.max_sdr", max_sdr, low=-math.inf)
        self.max_sdr = max_sdr

    def forward(
        self,
        estimates: Float[Tensor, "B S T"],
        sources: Float[Tensor, "B S T"],
        sources_length: Int[Tensor, " B"],
        audio: Float[Tensor, "B T"],
        **_,
    ) -> dict[str, Tensor]:
        """Negative SA-SDR of a batch.

        Args:
            estimates: [B, S, T], in any order: the permutation is that of the smallest error.
            sources: references [B, S, T], zero where somebody is missing.
            sources_length: [B], in samples.
            audio: mixtures [B, T], to which errors are relative where nobody speaks.

        Returns:
            `loss`, the mean in dB over items.
        """
        estimates, sources, audio = (
            without_padding(signal, sources_length) for signal in (estimates, sources, audio)
        )
        errors = squared_errors(estimates, sources)
        error = diagonal(apply_permutation(errors, best_permutation(errors))).sum(1)
        energy = sources.square().sum((1, 2))
        energy = torch.where(energy > 0, energy, audio.square().sum(1)) + EPS
        return {"loss": (10 * torch.log10(error / energy + 10 ** (-self.max_sdr / 10))).mean()}
