"""Muon of stacked matrices against torch's, one matrix after the other."""

import pytest
import torch
from torch import nn

from src.utils.muon import StackedMuon, orthogonalise

SHAPES = [(8, 8), (8, 16), (16, 8), (8, 8), (4, 32), (16, 8)]


def trained(optimizer_class, **options):
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    optimizer = optimizer_class(weights, lr=0.1, **options)
    for _ in range(3):
        for weight in weights[:-1]:  # one has no gradient
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return weights, optimizer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.01},
        {"adjust_lr_fn": "original", "nesterov": False, "momentum": 0.8, "ns_steps": 3},
    ],
)
def test_equals_torch(options):
    weights, optimizer = trained(StackedMuon, **options)
    expected, plain = trained(torch.optim.Muon, **options)
    for ours, theirs in zip(weights, expected, strict=True):
        # The orthogonal matrices are of bfloat16, whose products may be added in another order.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-3)
    states = optimizer.state_dict()["state"], plain.state_dict()["state"]
    torch.testing.assert_close(*states)


def test_singular_values_are_near_one():
    matrices = [torch.randn(12, 20), torch.randn(20, 12), torch.zeros(12, 20)]
    *results, zero = orthogonalise(matrices, (3.4445, -4.775, 2.0315), 5, 1e-7)
    for result, matrix in zip(results, matrices[:2], strict=True):
        assert result.shape == matrix.shape
        values = torch.linalg.svdvals(result.float())
        assert values.min() > 0.5 and values.max() < 1.4
    assert not zero.any()


def test_closure():
    weight = nn.Parameter(torch.ones(2, 2))

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert StackedMuon([weight], lr=0.1).step(closure) == 4 and weight.max() < 1


def test_sharded_matrices_are_left_to_torch(monkeypatch):
    weight, steps = nn.Parameter(torch.ones(2, 2)), []
    weight.full_tensor = lambda: weight  # as DTensor has
    monkeypatch.setattr(torch.optim.Muon, "step", lambda self, closure: steps.append(closure))
    StackedMuon([weight], lr=0.1).step()
    assert steps == [None]


@pytest.mark.parametrize("ns_steps", [0, 100, 2.5])
def test_bad_number_of_iterations_raises(ns_steps):
    with pytest.raises(ValueError, match="ns_steps: .*; a whole number from 1 to 99"):
        StackedMuon([nn.Parameter(torch.ones(2, 2))], ns_steps=ns_steps)
