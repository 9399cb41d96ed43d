import pytest
import torch

from src.trainer.optimization import Optimization
from src.utils.schedulers import Noam, OneCycle, WarmupCosine


def test_extended_run_uses_new_schedule():
    def schedule(steps):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return Optimization(optimizer, WarmupCosine(optimizer, total_steps=steps), [])

    def learning_rates(optimization, count):
        values = []
        for _ in range(count):
            values.append(optimization.learning_rate)
            optimization.optimizer.step()
            optimization.step_schedule()
        return values

    whole = learning_rates(schedule(40), 40)
    short = schedule(20)
    learning_rates(short, 20)
    longer = schedule(40)
    longer.load_state_dict(short.state_dict())
    later = learning_rates(longer, 20)
    assert later[1:] == pytest.approx(whole[21:])


def test_noam_by_hand():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=5.0)
    scheduler = Noam(optimizer, d_model=512, warmup_steps=4, min_lr=1.0)
    learning_rates = []
    for _ in range(6):
        learning_rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    expected = [5 * 512**-0.5 * min(s**-0.5, s * 4**-1.5) for s in range(1, 7)]
    assert learning_rates[:4] == pytest.approx(expected[:4])
    assert learning_rates[4:] == [1.0, 1.0]


@pytest.mark.parametrize("steps", [1, 9, 10, 11, 20])
def test_one_cycle_of_any_length(steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    options = {"max_lr": 1.0, "cycle_momentum": False}
    scheduler = OneCycle(optimizer, steps, pct_start=1.0 if steps == 1 else 0.1, **options)
    learning_rates = []
    for _ in range(steps):
        learning_rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert learning_rates[-1] < 0.01
    assert steps == 1 or max(learning_rates) > 0.9


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Noam, {"d_model": 0, "warmup_steps": 4}, "d_model: 0; a whole number above 0"),
        (Noam, {"d_model": 8, "warmup_steps": 0}, "warmup_steps: 0; a whole number above 0"),
        (Noam, {"d_model": 8, "warmup_steps": 4, "min_lr": -1}, "min_lr: -1; a number from 0 on"),
        (WarmupCosine, {"total_steps": None}, "total_steps: null; a whole number from 0 on"),
        (WarmupCosine, {"total_steps": 9, "warmup_fraction": 2}, "warmup_fraction: 2; a number"),
    ],
)
def test_bad_options(kind, options, message):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match=f"scheduler, {message}"):
        kind(optimizer, **options)
