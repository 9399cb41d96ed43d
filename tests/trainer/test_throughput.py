"""What the log says about speed: operations, waiting, memory."""

import time

import psutil
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from src.system import System
from src.tasks.base import Task
from src.trainer.throughput import Throughput
from src.utils.flops import FlopCounter
from src.utils.memory import memory_limit, peak_memory
from src.utils.phases import PhaseClock, phase

CPU = torch.device("cpu")


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 8, bias=False)

    def forward(self, audio, **_):
        return {"out": self.linear(audio[..., None])}


class Total(nn.Module):
    def forward(self, out, **_):
        return {"loss": out.sum()}


def batch_of(items, samples):
    lengths = torch.full((items,), samples)
    audio = torch.ones(items, samples)
    return {"id": ["a"] * items, "errors": [], "audio": audio, "audio_length": lengths}


def test_row_of_values():
    system = System(Linear(), Task(), sample_rate=8000, loss=Total())
    throughput = Throughput(system, Accelerator(cpu=True))
    for items, samples in ((2, 8000), (3, 8000), (1, 8100)):
        (batch,) = throughput.take(iter([batch_of(items, samples)]), 1)
        with throughput:
            system(batch)["loss"].backward()
    assert len(throughput.flops_by_length) == 1  # the others are scaled
    assert throughput.flops == 2 * 8 * (5 * 8000 + 8100)
    assert throughput.passes == 3
    row = throughput.row()
    ratio = row["audio_hours_per_second"] / row["steps_per_second"]
    assert ratio == pytest.approx((5 * 8000 + 8100) / 8000 / 3600 / 3)
    assert 0 < row["data_wait"] < 1 and row["memory_mib"] > 0 and row["mfu"] > 0
    assert throughput.steps == throughput.flops == 0


def test_frozen_parameters_and_failures():
    system = System(Linear().requires_grad_(False), Task(), sample_rate=8000, loss=Total())
    throughput = Throughput(system, Accelerator(cpu=True))
    assert throughput.passes == 1
    with pytest.raises(ValueError, match="needs audio"):
        system({"id": ["a"], "errors": [], "x": torch.ones(1)})
    assert throughput.counter is None  # counting ended with the error


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_counted(kind):
    layer = kind(8, 16, batch_first=True, bidirectional=True)
    with FlopCounter() as counter:
        layer(torch.randn(3, 20, 8))
    matrices = sum(w.numel() for w in layer.parameters() if w.dim() == 2)
    assert counter.flops == 2 * 60 * matrices


def test_phases_are_summed():
    with PhaseClock() as clock, phase("forward"):
        time.sleep(0.01)
    seconds = dict(clock.seconds)
    with phase("forward"):
        pass  # not clocked
    assert clock.seconds == seconds
    assert seconds["forward"] >= 0.01 and not seconds["data"]


def test_memory():
    before, now = peak_memory(CPU), psutil.Process().memory_info().rss
    torch.ones(max(before - now, 0) + 2**26, dtype=torch.uint8)  # above what was used before
    assert before < peak_memory(CPU) < memory_limit(CPU)
