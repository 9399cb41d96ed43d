"""Permutation-invariant training: losses that don't mind the order of the speakers."""

from itertools import permutations

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from src.utils.si_sdr import centred, si_sdr

ALL_UP_TO = 3  # speakers of whom every order is tried, on the device


def best_order(losses: Tensor) -> Tensor:
    """Which estimate goes to which source, so that the sum of their losses is least.

    Args:
        losses: [B, S, S]: of estimate i for source j.

    Returns:
        [B, S], int64: for each source the number of its estimate. Up to three speakers all orders
        are tried, with more the Hungarian algorithm finds the best one (Kuhn, 1955).
    """
    speakers = losses.shape[1]
    if speakers > ALL_UP_TO:
        pairs = losses.detach().double().cpu().transpose(1, 2)  # [B, source, estimate]
        pairs = pairs.nan_to_num(nan=0.0, posinf=1e9, neginf=-1e9)
        found = torch.tensor([linear_sum_assignment(item)[1].tolist() for item in pairs.numpy()])
        return found.to(losses.device)
    orders = torch.tensor(list(permutations(range(speakers))), device=losses.device)
    sources = torch.arange(speakers, device=losses.device)
    return orders[losses[:, orders, sources].sum(2).argmin(1)]


def in_order(values: Tensor, order: Tensor) -> Tensor:
    """[B, S, ...] with each source's own in its place.

    Args:
        values: of estimates, [B, S, ...].
        order: from `best_order`.
    """
    items = torch.arange(len(order), device=order.device).unsqueeze(1)
    return values[items, order]


def pairwise_loss(
    estimates: Tensor, sources: Tensor, mixture: Tensor, length: Tensor, floor: float = 30.0
) -> Tensor:
    """Minus SI-SDR of each estimate for each source, in dB.

    For a source that is silent, which has no SI-SDR, it is the energy of the estimate relative to
    the mixture in dB, of which -`floor` is as good as silence (as in Wisdom et al., arXiv
    2011.00803): finite, and with a gradient towards silence.

    Args:
        estimates, sources: [B, S, T].
        mixture: [B, T].
        length: [B], in samples.
        floor: in dB.

    Returns:
        [B, S, S], estimate by source.

    Raises:
        ValueError: there are more or fewer estimates than sources.
    """
    if estimates.shape[1] != sources.shape[1]:
        raise ValueError(
            f"The model separates {estimates.shape[1]} speakers (model.speakers), the data have "
            f"{sources.shape[1]}."
        )
    ratio = si_sdr(estimates.unsqueeze(2), sources.unsqueeze(1), length)
    energy = centred(estimates, length).square().sum(2)
    whole = centred(mixture, length).square().sum(1)[:, None] + 1e-8
    quiet = 10 * torch.log10(energy / whole + 10 ** (-floor / 10))
    silent = centred(sources, length).square().sum(2) == 0
    return torch.where(silent.unsqueeze(1), quiet.unsqueeze(2), -ratio)


class PermutationInvariantSiSdr(nn.Module):
    """Minus SI-SDR, of each item in the best order of its speakers (arXiv 1703.06284).

    Args:
        threshold: items whose SI-SDR is above so many dB are left out of the mean, so that those
            that are separated already don't drown the others; None: none are.
        floor: see `pairwise_loss`.
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
        **_,
    ) -> dict[str, Tensor]:
        """`loss`, the mean over the items that count, in dB; 0 if none does."""
        pairs = pairwise_loss(estimates, sources, audio, sources_length, self.floor)
        order = best_order(pairs)
        speakers = torch.arange(order.shape[1], device=order.device)
        losses = in_order(pairs, order)[:, speakers, speakers].mean(1)
        counts = torch.ones_like(losses)
        if self.threshold is not None:
            counts = (losses > -self.threshold).to(losses.dtype)
        return {"loss": (losses * counts).sum() / counts.sum().clamp(min=1)}
