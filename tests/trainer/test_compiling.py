"""torch.compile is for training steps."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from src.metrics.tracker import MetricTracker
from src.models.ops.checkpointing import blocks
from src.system import System
from src.tasks.base import Task
from src.trainer.base_trainer import BaseTrainer
from src.trainer.compiling import check_checkpointing, compile_training, is_compiled
from src.trainer.evaluation import Evaluation, evaluate


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.linear = nn.Linear(1, size)

    def forward(self, x):
        return self.linear(x).mean(-1, keepdim=True)


class Model(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.layers = nn.ModuleList(blocks or (Block(2), Block(2)))

    def forward(self, audio, **_):
        x = audio[..., None]
        for layer in self.layers:
            x = layer(x)
        return {"out": x}


def counting(graphs):
    """A compiler that changes nothing and collects the graphs that it is given."""

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    return backend


@pytest.mark.parametrize(
    ("model", "one_by_one"),
    [
        (Model(), True),
        (Model(Block(2), Block(3)), False),  # not alike
        (Model(*(nn.Sequential(nn.Linear(1, 1)) for _ in range(2))), False),  # torch's own
        (nn.Linear(1, 1), False),
    ],
)
def test_blocks_are_compiled_where_they_are_alike(model, one_by_one):
    assert not is_compiled(model)
    compile_training(model)
    assert is_compiled(model)
    assert all(map(is_compiled, blocks(model))) == (one_by_one or not blocks(model))
    assert (model._compiled_call_impl is None) == one_by_one


def test_sharded_blocks_are_compiled_one_by_one():
    model = Model(Block(2), Block(3))
    compile_training(model, sharded=True)
    assert all(map(is_compiled, blocks(model))) and model._compiled_call_impl is None


def test_batch_norm_that_is_computed_again_is_refused():
    check_checkpointing(Model())
    with pytest.raises(ValueError, match="activation_checkpointing: true can't be combined"):
        check_checkpointing(Model(nn.BatchNorm1d(1)))


def test_blocks_share_what_is_compiled(monkeypatch):
    graphs = []
    backend, compiled = counting(graphs), nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled(module, backend=backend))
    model = Model(*(Block(2) for _ in range(4)))
    compile_training(model)
    model(torch.ones(1, 5))
    assert 1 <= len(graphs) <= 2  # the first input needs no gradient, those of later blocks do


def test_evaluation_is_not_compiled():
    graphs = []
    model = Model()
    model.compile(backend=counting(graphs))
    system = System(model, Task(), sample_rate=8000)
    batch = {"id": ["a"], "errors": []}
    batch |= {"audio": torch.ones(1, 5), "audio_length": torch.tensor([5])}
    metrics, rows = evaluate(
        system, Evaluation("val", [batch], MetricTracker({})), Accelerator(cpu=True)
    )
    assert not graphs and [row["id"] for row in rows] == ["a"]
    model.train()(**batch)
    assert len(graphs) == 1


def test_self_test_of_a_checkpoint_is_not_compiled():
    graphs, saved = [], []
    model = Model()
    model.compile(backend=counting(graphs))
    trainer = SimpleNamespace(
        system=System(model, Task(), sample_rate=8000),
        accelerator=Accelerator(cpu=True),
        average=SimpleNamespace(applied=nullcontext),
        state_dict=dict,
        saver=SimpleNamespace(save=lambda *parts: saved.append(parts[-1])),
    )
    BaseTrainer.save(trainer, "last")
    assert saved[0]["out"].isfinite().all() and not graphs


def test_code_is_for_the_number_of_threads(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "threads", -1)
    compile_training(Model())
    assert config.cpp.threads == torch.get_num_threads()
