import pytest
import torch

from src.utils.schedulers import WarmupCosine


def test_a_longer_run_goes_on_along_its_own_curve():
    def schedule(steps):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return optimizer, WarmupCosine(optimizer, total_steps=steps)

    def rates(optimizer, scheduler, count):
        found = []
        for _ in range(count):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    whole = rates(*schedule(40), 40)
    short = schedule(20)
    rates(*short, 20)
    longer = schedule(40)
    longer[0].load_state_dict(short[0].state_dict())
    longer[1].load_state_dict(short[1].state_dict())
    later = rates(*longer, 20)
    assert later[1:] == pytest.approx(whole[21:])
