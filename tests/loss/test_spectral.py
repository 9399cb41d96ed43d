import numpy as np
import pytest
import torch

from src.loss.pit import best_permutation, pairwise_loss
from src.loss.spectral import MultiResolutionStft

SIZES = {"fft_sizes": [64, 128], "hop_lengths": [10, 25], "win_lengths": [40, 128]}


def signals(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_of(estimates, sources, *sizes):
    length = torch.tensor(sizes or [sources.shape[2]] * len(sources))
    batch = {"estimates": estimates, "sources": sources, "sources_length": length}
    return batch | {"audio": sources.sum(1)}


def by_hand(estimate, source, sizes=SIZES):
    """The equations of arXiv 1910.11480 in NumPy."""
    losses = []
    for n_fft, hop, window in zip(*sizes.values(), strict=True):
        taps = np.zeros(n_fft)
        start = (n_fft - window) // 2
        taps[start : start + window] = np.hanning(window + 1)[:-1]
        magnitudes = []
        for signal in (estimate, source):
            padded = np.pad(signal, n_fft // 2)
            frames = [padded[k : k + n_fft] * taps for k in range(0, len(padded) - n_fft + 1, hop)]
            power = np.abs(np.fft.rfft(frames)) ** 2
            magnitudes.append(np.sqrt(np.maximum(power, 1e-7)))
        e, s = magnitudes
        convergence = np.linalg.norm(s - e) / np.linalg.norm(s)
        losses.append(convergence + np.abs(np.log(s) - np.log(e)).mean())
    return np.mean(losses)


def test_loss_by_hand_for_any_lengths():
    estimates, sources = signals(3, 1, 500), signals(3, 1, 500, seed=1)
    sizes = (500, 333, 50)
    batch = batch_of(estimates, sources, *sizes)
    expected = [
        by_hand(estimates[i, 0, :size].numpy(), sources[i, 0, :size].numpy())
        for i, size in enumerate(sizes)
    ]
    loss = MultiResolutionStft(**SIZES)(**batch)["loss"]
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_equal_signals_have_no_loss_and_a_finite_gradient():
    sources = signals(2, 1, 300)
    estimates = sources.clone().requires_grad_()
    loss = MultiResolutionStft(**SIZES)(**batch_of(estimates, sources))["loss"]
    loss.backward()
    assert loss.item() == 0 and estimates.grad.isfinite().all()
    louder = MultiResolutionStft(**SIZES)(**batch_of(2 * sources, sources))["loss"]
    assert louder.item() == pytest.approx(1 + np.log(2), abs=0.05)


def test_silent_sources_are_left_out():
    sources, loss = signals(2, 2, 300), MultiResolutionStft(**SIZES)
    estimates = (sources + signals(2, 2, 300, seed=1)).requires_grad_()
    sources[0, 1] = 0
    batch = batch_of(estimates, sources) | {"permutation": torch.tensor([[0, 1], [0, 1]])}
    own = [
        loss(**batch_of(estimates[i : i + 1, j : j + 1], sources[i : i + 1, j : j + 1]))["loss"]
        for i, j in ((0, 0), (1, 0), (1, 1))
    ]
    torch.testing.assert_close(loss(**batch)["loss"], torch.stack(own).mean())
    nothing = loss(**batch_of(estimates, 0 * sources))["loss"]
    nothing.backward()
    assert nothing == 0 and estimates.grad.abs().max() == 0


def test_a_known_permutation_gives_the_same_loss_to_the_bit():
    sources, loss = signals(3, 3, 400), MultiResolutionStft(**SIZES)
    sources[0, 2] = 0
    estimates = sources.roll(1, 1) + 0.3 * signals(3, 3, 400, seed=1)
    batch = batch_of(estimates, sources)
    pairs = pairwise_loss(estimates, sources, batch["audio"], batch["sources_length"])
    best = best_permutation(pairs)
    assert best.tolist() == [[1, 2, 0]] * 3
    known = batch | {"estimates": estimates.roll(-1, 1), "permutation": best}
    assert loss(**known)["loss"] == loss(**batch)["loss"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hop_lengths": [10]}, r"hop_lengths: \[10\]; a number for each resolution."),
        ({"fft_sizes": []}, r"fft_sizes: \[\]; a number for each resolution."),
        ({"win_lengths": [65, 128]}, "win_lengths: 65; a whole number from 1 to 64."),
        ({"hop_lengths": [0, 25]}, "hop_lengths: 0; a whole number above 0."),
    ],
)
def test_bad_sizes(changed, message):
    with pytest.raises(ValueError, match=f"MultiResolutionStft, {message}"):
        MultiResolutionStft(**{**SIZES, **changed})


def test_another_number_of_sources_raises():
    with pytest.raises(ValueError, match="The model separates 2 speakers .* the data have 1"):
        MultiResolutionStft(**SIZES)(**batch_of(signals(1, 2, 300), signals(1, 1, 300)))


def test_odd_sizes_do_not_depend_on_padding():
    sizes = {"fft_sizes": [31], "hop_lengths": [10], "win_lengths": [31]}
    loss = MultiResolutionStft(**sizes)
    estimate, source = signals(1, 1, 300), signals(1, 1, 300, seed=1)
    expected = pytest.approx(by_hand(estimate[0, 0].numpy(), source[0, 0].numpy(), sizes), rel=1e-5)
    assert loss(**batch_of(estimate, source))["loss"].item() == expected
    padded = [torch.nn.functional.pad(signal, (0, 77)) for signal in (estimate, source)]
    assert loss(**batch_of(*padded, 300))["loss"].item() == expected
