import math

import pytest
import torch

from src.metrics.masked_prediction import CodebookUse, MaskedAccuracy, MaskedFraction, MaskedLoss


def certain(predictions, codebook_size=5):
    """Logits [N, codebook_size, num_codebooks] whose largest value is at the prediction."""
    predictions = torch.tensor(predictions)
    return torch.nn.functional.one_hot(predictions, codebook_size).transpose(1, 2).float()


def masks(*sizes):
    """masked_tokens [B, T'] with so many masked tokens each, not all at the start."""
    return torch.stack([(torch.arange(20) % 2 == 1) & (torch.arange(20) < 2 * n) for n in sizes])


def random_batch(*sizes):
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(sum(sizes), 7, 2, generator=draw)
    targets = torch.randint(0, 7, (sum(sizes), 2), generator=draw)
    return logits, targets, masks(*sizes)


def test_accuracy_and_majority_by_hand():
    metric = MaskedAccuracy()
    scores = metric.update(
        logits=certain([[1, 0], [2, 0]]),
        targets=torch.tensor([[1, 0], [1, 0]]),
        masked_tokens=masks(1, 0, 1),
    )
    assert scores == [1.0, None, 0.5]
    scores = metric.update(
        logits=certain([[3, 4]]), targets=torch.tensor([[3, 1]]), masked_tokens=masks(1)
    )
    assert scores == [0.5]
    # correct: 2, 1 and 1 of six tokens; most frequent in each codebook: 1 twice, 0 twice
    assert metric.compute() == {"": 4 / 6, "majority": 4 / 6}


def test_loss_by_hand():
    metric = MaskedLoss()
    logits = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]).log().unsqueeze(2)
    targets = torch.tensor([[0], [1], [0]])
    scores = metric.update(logits=logits, targets=targets, masked_tokens=masks(0, 2, 1))
    expected = [-math.log(0.9), -math.log(0.5), -math.log(0.2)]
    assert scores[0] is None
    assert scores[1:] == pytest.approx([(expected[0] + expected[1]) / 2, expected[2]], rel=1e-6)
    assert metric.compute()[""] == pytest.approx(sum(expected) / 3, rel=1e-6)


@pytest.mark.parametrize("kind", [MaskedAccuracy, MaskedLoss])
def test_scores_and_values_for_any_batch_size(kind):
    sizes = [3, 0, 1, 9, 4, 7]
    logits, targets, masked_tokens = random_batch(*sizes)
    results = []
    for size in (1, 2, 6):
        metric, scores, start = kind(), [], 0
        for i in range(0, 6, size):
            stop = start + sum(sizes[i : i + size])
            scores += metric.update(
                logits=logits[start:stop],
                targets=targets[start:stop],
                masked_tokens=masked_tokens[i : i + size],
            )
            start = stop
        results.append((scores, metric.compute()))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("kind", [MaskedAccuracy, MaskedLoss])
def test_utterance_score_equals_metric_of_single_utterance(kind):
    logits, targets, masked_tokens = random_batch(4, 6)
    scores = kind().update(logits=logits, targets=targets, masked_tokens=masked_tokens)
    alone = kind()
    alone.update(logits=logits[4:], targets=targets[4:], masked_tokens=masked_tokens[1:])
    assert alone.compute()[""] == scores[1]


def test_loss_equals_that_of_torch():
    logits, targets, masked_tokens = random_batch(4, 6)
    metric = MaskedLoss()
    metric.update(logits=logits, targets=targets, masked_tokens=masked_tokens)
    expected = torch.nn.functional.cross_entropy(logits, targets).item()
    assert metric.compute()[""] == pytest.approx(expected, rel=1e-6)


def test_no_masked_token():
    batch = {"logits": torch.zeros(0, 5, 1), "targets": torch.zeros(0, 1, dtype=torch.long)}
    for metric in (MaskedAccuracy(), MaskedLoss()):
        assert metric.update(**batch, masked_tokens=masks(0, 0)) == [None, None]
        assert metric.compute() == {}


def test_nothing_added_has_no_value(caplog):
    for metric in (MaskedAccuracy(), MaskedLoss(), MaskedFraction(), CodebookUse(codebook_size=8)):
        assert metric.compute() == {}
    assert not caplog.text


def test_masked_fraction():
    metric = MaskedFraction()
    mask = torch.tensor([[True, False, False, True], [True, False, False, False]])
    scores = metric.update(ssl_mask=mask, ssl_mask_length=torch.tensor([4, 1]))
    assert scores == [0.5, 1.0]
    assert metric.compute() == {"": 3 / 5}


def test_codebook_use_by_hand(caplog):
    metric = CodebookUse(codebook_size=8)
    tokens = torch.tensor([[[0, 0, 1, 1, 7, 7]], [[2, 2, 3, 3, 5, 5]]])
    # 7 and 5 are padding
    assert metric.update(tokens=tokens, tokens_length=torch.tensor([4, 4])) is None
    values = metric.compute()
    assert values["coverage"] == 0.5
    assert values["perplexity"] == pytest.approx(4)
    assert not caplog.text


def test_codebook_use_is_a_mean_over_codebooks():
    metric = CodebookUse(codebook_size=4)
    for _ in range(3):  # in unequal batches too
        metric.update(tokens=torch.tensor([[[0, 1], [2, 2]]]), tokens_length=torch.tensor([2]))
    values = metric.compute()
    assert values["coverage"] == (2 / 4 + 1 / 4) / 2
    assert values["perplexity"] == pytest.approx((2 + 1) / 2)


def test_perplexity_of_an_uneven_codebook():
    metric = CodebookUse(codebook_size=4)
    metric.update(tokens=torch.tensor([[[0, 0, 0, 1]]]), tokens_length=torch.tensor([4]))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert metric.compute()["perplexity"] == pytest.approx(math.exp(entropy))


def test_collapsed_codebook_is_logged(caplog):
    metric = CodebookUse(codebook_size=512)
    metric.update(
        tokens=torch.zeros(2, 1, 50, dtype=torch.long), tokens_length=torch.tensor([50, 50])
    )
    metric.compute()
    assert "The codebook has collapsed: a perplexity of 1.0 of 512 codes" in caplog.text
