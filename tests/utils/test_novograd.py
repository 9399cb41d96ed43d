import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from src.loaded_config import check_target
from src.utils.novograd import NovoGrad


def problem():
    """Two layers and gradients for four steps."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 2)), rng.normal(size=4)]
    grads = [[rng.normal(size=w.shape) * 10**step for w in weights] for step in range(4)]
    return weights, grads


def plain_steps(weights, grads, lr, beta1, beta2, eps, weight_decay):
    """Algorithm 1 of the paper in NumPy, with a list of lists for every symbol."""
    w, m, v = [a.copy() for a in weights], [], []
    for layer, g in enumerate(grads[0]):
        v.append(float((g**2).sum()))
        m.append(g / (v[layer] ** 0.5 + eps) + weight_decay * w[layer])
        w[layer] = w[layer] - lr * m[layer]
    for step in grads[1:]:
        for layer, g in enumerate(step):
            v[layer] = beta2 * v[layer] + (1 - beta2) * float((g**2).sum())
            update = g / (v[layer] ** 0.5 + eps) + weight_decay * w[layer]
            m[layer] = beta1 * m[layer] + update
            w[layer] = w[layer] - lr * m[layer]
    return w


def take_steps(optimizer, parameters, grads):
    for step in grads:
        for parameter, grad in zip(parameters, step, strict=True):
            parameter.grad = torch.tensor(grad)
        optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.95, 0.98), (0.8, 0.5), (0.0, 0.0)])
def test_equals_formulas_of_the_paper(betas, weight_decay):
    weights, grads = problem()
    parameters = [torch.nn.Parameter(torch.tensor(w)) for w in weights]
    optimizer = NovoGrad(parameters, lr=0.3, betas=betas, eps=1e-3, weight_decay=weight_decay)
    take_steps(optimizer, parameters, grads)
    expected = plain_steps(weights, grads, 0.3, *betas, 1e-3, weight_decay)
    for parameter, value in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.detach(), torch.tensor(value), rtol=1e-12, atol=1e-12)


def test_scale_of_the_gradient_changes_nothing():
    weights, grads = problem()
    results = []
    for scale in (1.0, 1e4):
        parameters = [torch.nn.Parameter(torch.tensor(w)) for w in weights]
        optimizer = NovoGrad(parameters, eps=0.0)
        take_steps(optimizer, parameters, [[g * scale for g in step] for step in grads])
        results.append(parameters)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_restored_state_continues_exactly(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    grads = [[torch.randn(2, 3).numpy(), torch.randn(2).numpy()] for _ in range(6)]
    optimizer = NovoGrad(model.parameters(), weight_decay=0.01)
    take_steps(optimizer, list(model.parameters()), grads[:3])
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    twin = copy.deepcopy(model)
    restored = NovoGrad(twin.parameters(), lr=1.0)
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    take_steps(optimizer, list(model.parameters()), grads[3:])
    take_steps(restored, list(twin.parameters()), grads[3:])
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_parameters_without_gradient_and_zero_gradients_stay():
    still, zero = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    zero.grad = torch.zeros(2)
    optimizer = NovoGrad([still, zero])
    assert optimizer.step(lambda: 3.0) == 3.0
    assert torch.equal(still, torch.ones(2)) and torch.equal(zero, torch.ones(2))
    assert still not in optimizer.state


def test_first_gradient_of_zero_does_not_lengthen_the_next_step():
    late, prompt = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    for parameter, grads in ((late, [0.0, 3.0]), (prompt, [3.0])):
        optimizer = NovoGrad([parameter], lr=0.1)
        take_steps(optimizer, [parameter], [[np.full(2, g, np.float32)] for g in grads])
    assert torch.equal(late, prompt)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"lr": -1.0}, "lr: -1.0"),
        ({"betas": (0.9, 1.0)}, r"betas: \[0.9, 1.0\]"),
        ({"betas": (0.9,)}, "betas"),
        ({"eps": -1e-8}, "eps"),
        ({"weight_decay": -0.1}, "weight_decay"),
    ],
)
def test_bad_options_are_named(bad, words):
    with pytest.raises(ValueError, match=words):
        NovoGrad([torch.nn.Parameter(torch.ones(1))], **bad)


def test_a_group_has_its_own_learning_rate():
    a, b = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = NovoGrad([{"params": [a], "lr": 0.5}, {"params": [b]}], lr=0.1, eps=0.0)
    a.grad = b.grad = torch.ones(1)
    optimizer.step()
    assert a.item() == pytest.approx(0.5) and b.item() == pytest.approx(0.9)


def test_a_loaded_run_may_name_it():
    check_target("src.utils.novograd.NovoGrad", ("optimizer", "_target_"), Path("config.yaml"))
