import pytest
import torch
from torch import nn

from src.loss.weighted_sum import WeightedSum


class Mean(nn.Module):
    def __init__(self, key):
        super().__init__()
        self.key = key

    def forward(self, **batch):
        return {"loss": batch[self.key].mean()}


def test_weighted_sum_and_parts():
    loss = WeightedSum({"a": Mean("x"), "b": Mean("y")}, {"b": 0.5})
    values = loss(x=torch.tensor([1.0, 3.0]), y=torch.tensor([8.0]))
    assert {name: value.item() for name, value in values.items()} == {"a": 2, "b": 8, "loss": 6}


def test_bad_names():
    with pytest.raises(ValueError, match="weight of 'c', no loss of a"):
        WeightedSum({"a": Mean("x")}, {"c": 1.0})
    with pytest.raises(ValueError, match="wanted names other than 'loss'"):
        WeightedSum({})
    with pytest.raises(ValueError, match="weight of 'a': -1.0"):
        WeightedSum({"a": Mean("x")}, {"a": -1.0})
