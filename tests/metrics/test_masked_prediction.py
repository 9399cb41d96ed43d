import math

import pytest
import torch

from src.metrics.masked_prediction import CodebookUse, MaskedAccuracy, MaskedLoss, MaskedShare


def scores(guesses, classes=5):
    """Logits [N, classes, books] whose best class is the guess."""
    return torch.nn.functional.one_hot(torch.tensor(guesses), classes).transpose(1, 2).float()


def test_accuracy_and_majority_by_hand():
    metric = MaskedAccuracy()
    metric.update(logits=scores([[1, 0], [2, 0]]), targets=torch.tensor([[1, 0], [1, 0]]))
    metric.update(logits=scores([[3, 4]]), targets=torch.tensor([[3, 1]]))
    # right: 1 and 0, then 0, then 3 of six tokens; most frequent: 1 twice, 0 twice
    assert metric.compute() == {"": 4 / 6, "majority": 4 / 6}


def test_figures_do_not_depend_on_the_batches():
    torch.manual_seed(0)
    logits, targets = torch.randn(60, 7, 2), torch.randint(0, 7, (60, 2))
    found = []
    for size in (1, 7, 60):
        metric, loss = MaskedAccuracy(), MaskedLoss()
        for a, b in zip(logits.split(size), targets.split(size), strict=True):
            metric.update(logits=a, targets=b)
            mean = torch.nn.functional.cross_entropy(a, b)
            loss.update(masked_prediction=mean, targets=b)
        found.append((metric.compute(), loss.compute()[""]))
    assert found[0][0] == found[1][0] == found[2][0]
    assert found[0][1] == pytest.approx(found[2][1], rel=1e-6)


def test_nothing_masked():
    metric = MaskedAccuracy()
    metric.update(logits=torch.zeros(0, 5, 1), targets=torch.zeros(0, 1, dtype=torch.long))
    assert metric.compute() == {"": 0.0, "majority": 0.0}


def test_masked_share():
    metric = MaskedShare()
    mask = torch.tensor([[True, False, False, True], [True, False, False, False]])
    metric.update(mask=mask, mask_length=torch.tensor([4, 2]))
    assert metric.compute() == {"": 0.5}


def test_codebook_use_by_hand(caplog):
    metric = CodebookUse(classes=8)
    tokens = torch.tensor([[[0, 0, 1, 1, 7, 7]], [[2, 2, 3, 3, 5, 5]]])
    metric.update(tokens=tokens, tokens_length=torch.tensor([4, 4]))  # 7 and 5 are padding
    found = metric.compute()
    assert found["coverage"] == 0.5
    assert found["perplexity"] == pytest.approx(4)
    assert not caplog.text


def test_perplexity_of_an_uneven_codebook():
    metric = CodebookUse(classes=4)
    metric.update(tokens=torch.tensor([[[0, 0, 0, 1]]]), tokens_length=torch.tensor([4]))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert metric.compute()["perplexity"] == pytest.approx(math.exp(entropy))


def test_a_collapsed_codebook_is_warned_of(caplog):
    metric = CodebookUse(classes=512)
    metric.update(
        tokens=torch.zeros(2, 1, 50, dtype=torch.long), tokens_length=torch.tensor([50, 50])
    )
    metric.compute()
    assert "The codebook has collapsed: a perplexity of 1.0 of 512 codes" in caplog.text
