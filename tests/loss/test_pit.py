from itertools import permutations

import pytest
import torch
from torchmetrics.functional.audio import (
    permutation_invariant_training,
    scale_invariant_signal_distortion_ratio,
    signal_noise_ratio,
    source_aggregated_signal_distortion_ratio,
)

from src.loss.pit import (
    PermutationInvariantSaSdr,
    PermutationInvariantSiSdr,
    PermutationInvariantSnr,
    apply_permutation,
    best_permutation,
    diagonal,
    pairwise_loss,
    pairwise_si_sdr,
    pairwise_snr_loss,
)
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


def test_si_sdr_equals_torchmetrics():
    estimate, target = signals(3, 2, 4000), signals(3, 2, 4000, seed=1)
    estimate = target + 0.3 * estimate + 0.1
    length = torch.tensor([4000] * 3)
    expected = scale_invariant_signal_distortion_ratio(estimate, target, zero_mean=True)
    torch.testing.assert_close(si_sdr(estimate, target, length), expected, rtol=0, atol=1e-5)


def test_independent_of_padding():
    estimate, target = signals(2, 1, 900), signals(2, 1, 900, seed=1)
    together = si_sdr(estimate, target, torch.tensor([900, 500]))
    alone = si_sdr(estimate[1:, :, :500], target[1:, :, :500], torch.tensor([500]))
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-5)


def test_loss_equals_torchmetrics():
    sources = signals(4, 2, 2000)
    estimates = sources.flip(1) + 0.5 * signals(4, 2, 2000, seed=1)
    estimates[0] = estimates[0].flip(0)
    expected, _ = permutation_invariant_training(
        estimates, sources, scale_invariant_signal_distortion_ratio, zero_mean=True
    )
    loss = PermutationInvariantSiSdr()(**batch_of(estimates, sources))["loss"]
    torch.testing.assert_close(loss, -expected.mean(), rtol=0, atol=1e-5)


def test_loss_equals_clearervoice():
    tensors, _ = golden("mossformer2_base")
    sources = tensors["in.sources"].transpose(1, 2)
    near = tensors["in.near_estimates"].transpose(1, 2)
    for estimates, expected in (
        (tensors["out.estimates"].transpose(1, 2), tensors["out.loss_per_item"]),
        (near, tensors["out.near_loss_per_item"]),
    ):
        loss = PermutationInvariantSiSdr()(**batch_of(estimates, sources))["loss"]
        torch.testing.assert_close(loss, expected.mean(), rtol=0, atol=5e-5)
        swapped = PermutationInvariantSiSdr()(**batch_of(estimates, sources.flip(1)))["loss"]
        torch.testing.assert_close(swapped, expected.mean(), rtol=0, atol=5e-5)


@pytest.mark.parametrize("speakers", [2, 3, 4, 5])
def test_every_permutation_is_undone(speakers):
    candidates = list(permutations(range(speakers)))
    sources = signals(1, speakers, 300).expand(len(candidates), -1, -1)
    estimates = torch.stack([sources[0][list(candidate)] for candidate in candidates])
    estimates = estimates + 0.01 * signals(*estimates.shape, seed=1)
    batch = batch_of(estimates, sources)
    pairs = pairwise_loss(estimates, sources, batch["audio"], batch["sources_length"])
    best = best_permutation(pairs)
    for candidate, own in zip(candidates, best.tolist(), strict=True):
        assert [candidate[k] for k in own] == list(range(speakers))
    permuted = apply_permutation(estimates, best)
    assert si_sdr(permuted, sources, batch["sources_length"]).min() > 35


@pytest.mark.parametrize("speakers", [3, 4, 5])
def test_best_permutation_equals_brute_force(speakers):
    losses = signals(20, speakers, speakers)
    best = best_permutation(losses)
    for item, own in zip(losses, best.tolist(), strict=True):
        sums = {
            candidate: sum(item[i, j].item() for j, i in enumerate(candidate))
            for candidate in permutations(range(speakers))
        }
        assert tuple(own) == min(sums, key=sums.get)


@pytest.mark.parametrize("estimate", ["random", "silent", "equal"])
@pytest.mark.parametrize("mixture", ["speech", "silence"])
def test_silent_target_has_a_finite_loss_and_gradient(estimate, mixture):
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


def test_leakage_into_silent_source_increases_loss():
    sources = signals(1, 2, 500)
    sources[0, 1] = 0
    losses = []
    for leak in (1.0, 0.1, 0.0):
        estimates = torch.stack(
            [sources[0, 0] + 0.1 * signals(500, seed=2), leak * signals(500, seed=5)]
        )
        losses.append(
            float(PermutationInvariantSiSdr()(**batch_of(estimates[None], sources))["loss"])
        )
    assert losses[0] > losses[1] > losses[2]


def test_items_above_the_threshold_are_ignored():
    sources = signals(2, 2, 500)
    estimates = sources.clone()
    estimates[1] += signals(2, 500, seed=1)
    batch = batch_of(estimates, sources)
    plain = PermutationInvariantSiSdr(threshold=30.0)(**batch)["loss"]
    alone = {k: v[1:] for k, v in batch.items()}
    torch.testing.assert_close(plain, PermutationInvariantSiSdr()(**alone)["loss"])
    done = {k: v[:1] for k, v in batch.items()}
    assert PermutationInvariantSiSdr(threshold=30.0)(**done)["loss"] == 0


def test_wrong_number_of_speakers_raises():
    with pytest.raises(ValueError, match="separates 2 speakers .*the data have 3"):
        pairwise_loss(signals(1, 2, 50), signals(1, 3, 50), signals(1, 50), torch.tensor([50]))


def test_non_finite_losses_give_a_permutation():
    losses = torch.full((1, 4, 4), torch.nan)
    assert sorted(best_permutation(losses)[0].tolist()) == [0, 1, 2, 3]


def test_level_of_a_silent_source_by_hand():
    sources = signals(1, 2, 500)
    sources[0, 1] = 0
    estimates = torch.stack([sources[0, 0], 0.1 * sources[0, 0]])[None]
    pairs = pairwise_loss(estimates, sources, sources[:, 0], torch.tensor([500]))
    # energies of 0 dB and -20 dB relative to the mixture, with a floor of -30 dB
    expected = 10 * torch.tensor([1 + 1e-3, 1e-2 + 1e-3]).log10()
    torch.testing.assert_close(pairs[0, :, 1], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("speakers", [2, 3, 4])
def test_permuted_estimates_have_the_same_loss_to_the_bit(speakers):
    sources, loss = signals(3, speakers, 500), PermutationInvariantSiSdr(threshold=30.0)
    estimates = sources.flip(1) + 0.5 * signals(3, speakers, 500, seed=1)
    batch = batch_of(estimates, sources)
    pairs = pairwise_loss(estimates, sources, batch["audio"], batch["sources_length"])
    permuted = {**batch, "estimates": apply_permutation(estimates, best_permutation(pairs))}
    assert loss(**permuted)["loss"] == loss(**batch)["loss"]


@pytest.mark.parametrize("given", [True, False])
def test_loss_of_a_known_permutation_is_the_same_to_the_bit(given, monkeypatch):
    sources, loss = signals(3, 2, 500), PermutationInvariantSiSdr(threshold=30.0, floor=20.0)
    sources[0, 1] = 0
    estimates = sources.flip(1) + 0.5 * signals(3, 2, 500, seed=1)
    batch = batch_of(estimates, sources)
    expected = loss(**batch)["loss"]
    pairs = pairwise_si_sdr(estimates, sources, batch["sources_length"])
    permutation = best_permutation(
        pairwise_loss(estimates, sources, batch["audio"], batch["sources_length"], 20.0)
    )
    batch["permutation"] = permutation
    batch["estimates"] = apply_permutation(estimates, permutation)
    if given:
        batch["estimates_si_sdr"] = diagonal(apply_permutation(pairs, permutation))
        monkeypatch.setattr("src.loss.pit.si_sdr", None)
    assert loss(**batch)["loss"] == expected


def test_snr_loss_equals_torchmetrics():
    sources = signals(4, 3, 2000)
    estimates = 0.7 * sources.flip(1) + 0.5 * signals(4, 3, 2000, seed=1)
    estimates[0] = estimates[0].flip(0)
    expected, _ = permutation_invariant_training(estimates, sources, signal_noise_ratio)
    loss = PermutationInvariantSnr(max_snr=100.0)(**batch_of(estimates, sources))["loss"]
    torch.testing.assert_close(loss, -expected.mean(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("speakers", [3, 4])
def test_snr_loss_by_hand(speakers):
    """The equations of arXiv 2011.00803, up to the constant 10 log10 of source or mixture."""
    sources, tau = signals(5, speakers, 400), 1e-3
    for i in range(5):
        sources[i, i % speakers :] = 0
    mixture, estimates = sources.sum(1), 0.3 * signals(5, speakers, 400, seed=1)
    estimates += sources.flip(1)
    batch = batch_of(estimates, sources)
    losses = []
    for x, own, references in zip(mixture, estimates, sources, strict=True):
        sums = []
        for chosen in permutations(range(speakers)):
            total = 0.0
            for i, s in zip(chosen, references, strict=True):
                e = own[i]
                if s.any():
                    total += 10 * (((e - s) ** 2).sum() + tau * (s**2).sum()).log10()
                    total -= 10 * (s**2).sum().log10()
                else:
                    energy = (x**2).sum() + 1e-8
                    total += 10 * ((e**2).sum() + tau * energy).log10() - 10 * energy.log10()
            sums.append(float(total) / speakers)
        losses.append(min(sums))
    loss = PermutationInvariantSnr()(**batch)["loss"]
    torch.testing.assert_close(loss, torch.tensor(losses).mean(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", [PermutationInvariantSnr, PermutationInvariantSaSdr])
def test_level_is_fixed(kind):
    sources = signals(2, 3, 500)
    sources[:, 2] = 0
    losses = [
        float(kind()(**batch_of(gain * sources, sources))["loss"]) for gain in (0.01, 0.5, 1.0, 2.0)
    ]
    assert losses[2] == pytest.approx(-30, abs=1e-3)
    assert losses[0] > losses[1] > losses[2] < losses[3]


@pytest.mark.parametrize("kind", [PermutationInvariantSnr, PermutationInvariantSaSdr])
def test_losses_of_levels_are_independent_of_padding_and_order(kind):
    sources, loss = signals(3, 3, 900), kind()
    sources[1, 2], sources[2] = 0, 0
    estimates = sources.flip(1) + 0.5 * signals(3, 3, 900, seed=1)
    batch = batch_of(estimates, sources, [900, 500, 700])
    batch["audio"] = batch["audio"] + 0.1 * signals(3, 900, seed=2)
    alone = []
    for i, size in enumerate((900, 500, 700)):
        own = {key: value[i : i + 1] for key, value in batch.items()}
        own |= {key: own[key][..., :size] for key in ("estimates", "sources", "audio")}
        alone.append(loss(**own)["loss"])
    together = loss(**batch)["loss"]
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=0, atol=1e-4)
    flipped = batch | {"estimates": estimates.roll(1, 1)}
    torch.testing.assert_close(loss(**flipped)["loss"], together)


@pytest.mark.parametrize("kind", [PermutationInvariantSnr, PermutationInvariantSaSdr])
@pytest.mark.parametrize("estimate", ["random", "silent", "equal"])
@pytest.mark.parametrize("mixture", ["speech", "silence"])
def test_losses_of_levels_have_a_finite_gradient(kind, estimate, mixture):
    sources = signals(2, 3, 500)
    sources[0, 1:] = 0
    if mixture == "silence":
        sources[0] = 0
    estimates = {
        "random": signals(2, 3, 500, seed=1),
        "silent": torch.zeros(2, 3, 500),
        "equal": sources.clone(),
    }[estimate].requires_grad_()
    loss = kind()(**batch_of(estimates, sources))["loss"]
    loss.backward()
    assert loss.isfinite() and estimates.grad.isfinite().all()
    if estimate == "random":
        assert (estimates.grad.abs().sum(2) > 0).all()


@pytest.mark.parametrize("speakers", [3, 4])
def test_sa_sdr_equals_torchmetrics(speakers):
    sources = signals(4, speakers, 800)
    sources[0, 1:] = 0
    estimates = sources.flip(1) + 0.3 * signals(4, speakers, 800, seed=1)
    sdr = [
        source_aggregated_signal_distortion_ratio(
            estimates[:, list(chosen)], sources, scale_invariant=False
        )
        for chosen in permutations(range(speakers))
    ]
    loss = PermutationInvariantSaSdr(max_sdr=100.0)(**batch_of(estimates, sources))["loss"]
    torch.testing.assert_close(loss, -torch.stack(sdr).amax(0).mean(), rtol=0, atol=1e-4)


def test_bad_options_of_the_snr_loss():
    with pytest.raises(ValueError, match="loss.floor: inf; a number that is finite."):
        PermutationInvariantSnr(floor=float("inf"))
    with pytest.raises(ValueError, match="separates 3 speakers .*the data have 2"):
        pairwise_snr_loss(signals(1, 3, 50), signals(1, 2, 50), signals(1, 50), torch.tensor([50]))
