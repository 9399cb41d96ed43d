from itertools import permutations

import pytest
import torch
from torchmetrics.functional.audio import (
    permutation_invariant_training,
    scale_invariant_signal_distortion_ratio,
)

from src.loss.pit import PermutationInvariantSiSdr, best_order, in_order, pairwise_loss
from src.utils.si_sdr import si_sdr
from tests.golden import golden


def signals(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_of(estimates, sources, length=None):
    size = sources.shape[2]
    length = torch.full((len(sources),), size) if length is None else torch.tensor(length)
    return {
        "estimates": estimates,
        "sources": sources,
        "sources_length": length,
        "audio": sources.sum(1),
    }


def test_ratios_are_those_of_torchmetrics():
    estimate, target = signals(3, 2, 4000), signals(3, 2, 4000, seed=1)
    estimate = target + 0.3 * estimate + 0.1
    length = torch.tensor([4000] * 3)
    wanted = scale_invariant_signal_distortion_ratio(estimate, target, zero_mean=True)
    torch.testing.assert_close(si_sdr(estimate, target, length), wanted, rtol=0, atol=1e-5)


def test_padding_counts_nothing():
    estimate, target = signals(2, 1, 900), signals(2, 1, 900, seed=1)
    together = si_sdr(estimate, target, torch.tensor([900, 500]))
    alone = si_sdr(estimate[1:, :, :500], target[1:, :, :500], torch.tensor([500]))
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-5)


def test_the_loss_is_that_of_torchmetrics():
    sources = signals(4, 2, 2000)
    estimates = sources.flip(1) + 0.5 * signals(4, 2, 2000, seed=1)
    estimates[0] = estimates[0].flip(0)
    wanted, _ = permutation_invariant_training(
        estimates, sources, scale_invariant_signal_distortion_ratio, zero_mean=True
    )
    loss = PermutationInvariantSiSdr()(**batch_of(estimates, sources))["loss"]
    torch.testing.assert_close(loss, -wanted.mean(), rtol=0, atol=1e-5)


def test_the_reference_loss():
    tensors, _ = golden("mossformer2_base")
    sources = tensors["in.sources"].transpose(1, 2)
    near = tensors["in.near_estimates"].transpose(1, 2)
    for estimates, wanted in (
        (tensors["out.estimates"].transpose(1, 2), tensors["out.loss_per_item"]),
        (near, tensors["out.near_loss_per_item"]),
    ):
        loss = PermutationInvariantSiSdr()(**batch_of(estimates, sources))["loss"]
        torch.testing.assert_close(loss, wanted.mean(), rtol=0, atol=5e-5)
        swapped = PermutationInvariantSiSdr()(**batch_of(estimates, sources.flip(1)))["loss"]
        torch.testing.assert_close(swapped, wanted.mean(), rtol=0, atol=5e-5)


@pytest.mark.parametrize("speakers", [2, 3, 4, 5])
def test_every_order_is_found(speakers):
    orders = list(permutations(range(speakers)))
    sources = signals(1, speakers, 300).expand(len(orders), -1, -1)
    estimates = torch.stack([sources[0][list(order)] for order in orders])
    estimates = estimates + 0.01 * signals(*estimates.shape, seed=1)
    batch = batch_of(estimates, sources)
    pairs = pairwise_loss(estimates, sources, batch["audio"], batch["sources_length"])
    found = best_order(pairs)
    for order, own in zip(orders, found.tolist(), strict=True):
        assert [order[k] for k in own] == list(range(speakers))
    ordered = in_order(estimates, found)
    assert si_sdr(ordered, sources, batch["sources_length"]).min() > 35


@pytest.mark.parametrize("speakers", [3, 4, 5])
def test_the_best_order_is_that_of_trying_all(speakers):
    losses = signals(20, speakers, speakers)
    found = best_order(losses)
    for item, own in zip(losses, found.tolist(), strict=True):
        sums = {
            order: sum(item[i, j].item() for j, i in enumerate(order))
            for order in permutations(range(speakers))
        }
        assert tuple(own) == min(sums, key=sums.get)


@pytest.mark.parametrize("estimate", ["random", "silent", "equal"])
@pytest.mark.parametrize("mixture", ["speech", "silence"])
def test_a_silent_target_has_a_finite_loss_and_gradient(estimate, mixture):
    sources = signals(2, 2, 500)
    sources[0, 1] = 0
    if mixture == "silence":
        sources[0] = 0
    estimates = {
        "random": signals(2, 2, 500, seed=1),
        "silent": torch.zeros(2, 2, 500),
        "equal": sources.clone(),
    }[estimate].requires_grad_()
    loss = PermutationInvariantSiSdr()(**batch_of(estimates, sources))["loss"]
    loss.backward()
    assert loss.isfinite() and estimates.grad.isfinite().all()
    if estimate == "random":
        assert estimates.grad[0].abs().sum() > 0


def test_less_of_a_silent_speaker_is_better():
    sources = signals(1, 2, 500)
    sources[0, 1] = 0
    found = []
    for leak in (1.0, 0.1, 0.0):
        estimates = torch.stack(
            [sources[0, 0] + 0.1 * signals(500, seed=2), leak * signals(500, seed=5)]
        )
        found.append(
            float(PermutationInvariantSiSdr()(**batch_of(estimates[None], sources))["loss"])
        )
    assert found[0] > found[1] > found[2]


def test_very_good_items_can_be_left_out():
    sources = signals(2, 2, 500)
    estimates = sources.clone()
    estimates[1] += signals(2, 500, seed=1)
    batch = batch_of(estimates, sources)
    plain = PermutationInvariantSiSdr(threshold=30.0)(**batch)["loss"]
    alone = {k: v[1:] for k, v in batch.items()}
    torch.testing.assert_close(plain, PermutationInvariantSiSdr()(**alone)["loss"])
    done = {k: v[:1] for k, v in batch.items()}
    assert PermutationInvariantSiSdr(threshold=30.0)(**done)["loss"] == 0


def test_another_number_of_speakers_is_an_error():
    with pytest.raises(ValueError, match="separates 2 speakers .*the data have 3"):
        pairwise_loss(signals(1, 2, 50), signals(1, 3, 50), signals(1, 50), torch.tensor([50]))


def test_what_is_not_finite_is_left_to_the_trainer():
    losses = torch.full((1, 4, 4), torch.nan)
    assert sorted(best_order(losses)[0].tolist()) == [0, 1, 2, 3]
