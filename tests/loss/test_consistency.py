import pytest
import torch

from src.loss.consistency import ConsistencyLoss
from src.transforms.views import Views


def test_equals_the_definition_and_stops_gradients_of_targets():
    torch.manual_seed(0)
    logits = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    length, labels = torch.tensor([5, 3, 5, 3]), torch.tensor([2, 1, 2, 1])
    log_probs = logits.log_softmax(-1)
    loss = ConsistencyLoss()(log_probs.float(), length, labels, views=2)["loss"]
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    expected = 0.0
    constant = log_probs.detach()
    for i in range(4):
        other, own = constant[(i + 2) % 4, : length[i]], log_probs[i, : length[i]]
        expected = expected + (other.exp() * (other - own)).sum() / labels[i] / 4
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    (wanted,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_is_zero_for_equal_views_and_without_views():
    log_probs = torch.randn(2, 4, 3).log_softmax(-1)
    twice, two = log_probs.repeat(2, 1, 1), torch.tensor([4, 4, 4, 4])
    assert ConsistencyLoss(per_label=False)(twice, two, two, views=2)["loss"].abs() < 1e-6
    assert ConsistencyLoss()(log_probs, two[:2], two[:2])["loss"] == 0
    with pytest.raises(ValueError, match="3 views"):
        ConsistencyLoss()(log_probs, two[:2], two[:2], views=3)


def test_one_view_in_training_is_logged_once(caplog):
    loss, log_probs, two = ConsistencyLoss(), torch.randn(2, 4, 3), torch.tensor([4, 4])
    loss.eval()(log_probs, two, two)
    assert not caplog.records
    for _ in range(2):
        loss.train()(log_probs, two, two)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "transforms=asr_views" in caplog.text


def test_views_repeat_items_with_new_seeds():
    batch = {
        "id": ["a", "b"],
        "seed": torch.tensor([3, 2**62]),
        "text": ["x", "y"],
        "spectrogram": torch.arange(12.0).reshape(2, 2, 3),
        "spectrogram_length": torch.tensor([3, 2]),
        "skipped": 0,
    }
    after = Views(3)(**batch)
    assert after["id"] == ["a", "b"] * 3 and after["text"] == ["x", "y"] * 3
    assert after["views"] == 3 and "skipped" not in after
    assert torch.equal(after["spectrogram"][4:], batch["spectrogram"])
    assert after["spectrogram_length"].tolist() == [3, 2] * 3
    seeds = after["seed"].tolist()
    assert seeds[:2] == [3, 2**62] and len(set(seeds)) == 6 and min(seeds) >= 0
    alone = Views(3)(id=["b"], seed=batch["seed"][1:])
    assert alone["seed"].tolist() == seeds[1::2]
    with pytest.raises(ValueError, match="count"):
        Views(1)
