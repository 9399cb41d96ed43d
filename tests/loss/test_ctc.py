import itertools
import math

import torch

from src.loss.ctc import CTCLoss


def brute_force(log_probs, target):
    frames, labels = log_probs.shape
    total = 0.0
    for path in itertools.product(range(labels), repeat=frames):
        if [k for k, _ in itertools.groupby(path) if k] == target:
            total += math.exp(sum(log_probs[t, k].item() for t, k in enumerate(path)))
    return -math.log(total)


def test_equals_the_sum_over_all_alignments():
    torch.manual_seed(0)
    log_probs = torch.randn(2, 5, 3).log_softmax(-1)
    batch = {
        "log_probs": log_probs,
        "log_probs_length": torch.tensor([5, 4]),
        "tokens": torch.tensor([[1, 1, 2], [2, 0, 0]]),
        "tokens_length": torch.tensor([3, 1]),
    }
    by_hand = [brute_force(log_probs[0], [1, 1, 2]), brute_force(log_probs[1, :4], [2])]
    losses = CTCLoss(per_label=False)(**batch, id=["a", "b"])
    torch.testing.assert_close(losses["loss"].item(), sum(by_hand) / 2, rtol=1e-5, atol=1e-5)
    losses = CTCLoss()(**batch)
    expected = (by_hand[0] / 3 + by_hand[1]) / 2
    torch.testing.assert_close(losses["loss"].item(), expected, rtol=1e-5, atol=1e-5)
    assert losses["ctc"] == losses["loss"] and not losses["ctc"].requires_grad


def test_impossible_alignment_has_zero_loss():
    log_probs = torch.randn(1, 2, 3).log_softmax(-1).requires_grad_()
    lengths = torch.tensor([2]), torch.tensor([3])
    losses = CTCLoss()(log_probs, lengths[0], torch.tensor([[1, 1, 1]]), lengths[1])
    losses["loss"].backward()
    assert losses["loss"] == 0 and not log_probs.grad.any()


def test_label_smoothing_adds_the_divergence_from_uniform():
    log_probs = torch.randn(2, 6, 4).log_softmax(-1)
    length, tokens, count = (
        torch.tensor([6, 4]),
        torch.tensor([[1, 2], [3, 0]]),
        torch.tensor([2, 1]),
    )
    plain = CTCLoss()(log_probs, length, tokens, count)["loss"]
    smoothed = CTCLoss(label_smoothing=0.1)(log_probs, length, tokens, count)
    divergence = 0.0
    for i in range(2):
        rows = log_probs[i, : length[i]]
        divergence += (0.25 * (math.log(0.25) - rows)).sum() / count[i] / 2
    torch.testing.assert_close(smoothed["loss"], 0.9 * plain + 0.1 * divergence)
    torch.testing.assert_close(smoothed["ctc"], plain)
