"""torch.compile is for training steps."""

import torch
from accelerate import Accelerator
from torch import nn

from src.metrics.tracker import MetricTracker
from src.models.ops.checkpointing import blocks
from src.system import System
from src.tasks.base import Task
from src.trainer.compiling import compile_training, is_compiled
from src.trainer.evaluation import Evaluation, evaluate


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(1, 1)) for _ in range(2))

    def forward(self, audio, **_):
        x = audio[..., None]
        for layer in self.layers:
            x = layer(x)
        return {"out": x}


def test_blocks_are_compiled():
    model, without_blocks = Model(), nn.Linear(1, 1)
    assert not is_compiled(model) and not is_compiled(without_blocks)
    compile_training(model)
    compile_training(without_blocks)
    assert all(map(is_compiled, blocks(model))) and is_compiled(without_blocks)
    assert model._compiled_call_impl is None


def test_evaluation_is_not_compiled():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model = Model()
    model.compile(backend=backend)
    system = System(model, Task(), sample_rate=8000)
    batch = {"id": ["a"], "errors": []}
    batch |= {"audio": torch.ones(1, 5), "audio_length": torch.tensor([5])}
    metrics, rows = evaluate(
        system, Evaluation("val", [batch], MetricTracker({})), Accelerator(cpu=True)
    )
    assert not graphs and [row["id"] for row in rows] == ["a"]
    model.train()(**batch)
    assert len(graphs) == 1
