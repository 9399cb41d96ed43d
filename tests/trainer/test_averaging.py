import pytest
import torch
from torch import nn

from src.trainer.averaging import WeightAverage, check_average


def model_of(value):
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def test_ema_equals_the_recursion():
    average = WeightAverage(model_of(1.0), ema_decay=0.3)
    expected = 1.0
    for n, value in enumerate([2.0, -1.0, 4.0, 0.5], 1):
        decay = min(0.3, (1 + n) / (10 + n))
        nn.init.constant_(average.model.weight, value)
        average.after_step()
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        assert average.model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert average.model.weight.item() == 0.5


def test_mean_of_the_last_epochs_counts_each_once():
    average = WeightAverage(model_of(0.0), last_epochs=2, epochs=4)
    for epoch, (value, expected) in enumerate([(1.0, 1.0), (5.0, 5.0), (2.0, 2.0), (4.0, 3.0)]):
        nn.init.constant_(average.model.weight, value)
        average.after_step()
        average.after_epoch(epoch)
        average.after_epoch(epoch)  # a run resumed in the evaluation comes here again
        with average.applied():
            assert average.model.weight.item() == expected


def test_shared_parameters_and_running_statistics():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.append(model[0])
    average = WeightAverage(model, ema_decay=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model[0].weight.add_(1.0)
        model[1].running_mean.add_(2.0)
    average.after_step()
    after = {name: value.clone() for name, value in model.state_dict().items()}
    with average.applied():
        assert model[2].weight is model[0].weight
        decay = 2 / 11
        for name in ("0.weight", "1.running_mean"):
            expected = decay * before[name] + (1 - decay) * after[name]
            torch.testing.assert_close(model.state_dict()[name], expected)
    for name, value in model.state_dict().items():
        assert torch.equal(value, after[name])


def test_state_is_restored_exactly():
    first = WeightAverage(model_of(1.0), ema_decay=0.9)
    for value in (2.0, 3.3):
        nn.init.constant_(first.model.weight, value)
        first.after_step()
    with first.applied():
        saved = first.model.weight.clone()
    second = WeightAverage(model_of(saved.item()), ema_decay=0.9)
    second.load_state_dict(first.state_dict())
    for one in (first, second):
        assert one.model.weight.item() == pytest.approx(3.3)
        nn.init.constant_(one.model.weight, -1.0)
        one.after_step()
        with one.applied():
            result = one.model.weight.item()
    with first.applied():
        assert first.model.weight.item() == result


def test_without_an_average_the_weights_stay():
    average = WeightAverage(model_of(1.0))
    nn.init.constant_(average.model.weight, 2.0)
    average.after_step()
    average.after_epoch(0)
    with average.applied():
        assert average.model.weight.item() == 2.0
    assert average.state_dict()["trained"] == {}


@pytest.mark.parametrize(
    "given, part",
    [
        ((None, None), "give one of"),
        ((0.9, 2), "give one of"),
        ((1.5, None), "ema_decay"),
        ((None, 9), "last_epochs"),
    ],
)
def test_bad_values_are_named(given, part):
    with pytest.raises(ValueError, match=part):
        check_average(*given, epochs=5)
