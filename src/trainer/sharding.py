"""How the processes of a training share its model: sharding and batch statistics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from src.models.ops.checkpointing import blocks
from src.trainer.optimization import Optimization
from src.utils.shards import is_sharded

STRATEGIES = ("ddp", "fsdp")


def shard(
    model: nn.Module, optimizations: Sequence[Optimization], accelerator: Accelerator
) -> None:
    """Leave each process a piece of each parameter, gradient and state of the optimizers (FSDP2).

    Args:
        model: in place; its parameters become those of the main process.
        optimizations: whose optimizers get the new parameters, before their first step.
        accelerator: of this process.
    """
    from torch.distributed.device_mesh import init_device_mesh  # takes a second
    from torch.distributed.fsdp import fully_shard

    model.to(accelerator.device)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.copy_(broadcast(tensor.detach().clone()))
    before = dict(model.named_parameters(remove_duplicate=False))
    count: dict[nn.Parameter, int] = {}
    for parameter in before.values():
        count[parameter] = count.get(parameter, 0) + 1
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for block in blocks(model):
        # Parameters that blocks share stay with the model as a whole.
        if all(count[parameter] == 1 for parameter in block.parameters()):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    after = dict(model.named_parameters(remove_duplicate=False))
    new = {parameter: after[name] for name, parameter in before.items()}
    for optimization in optimizations:
        optimization.parameters = [new[parameter] for parameter in optimization.parameters]
        for group in optimization.optimizer.param_groups:
            group["params"] = [new[parameter] for parameter in group["params"]]
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.register_forward_pre_hook(refresh_weights)


def refresh_weights(rnn: nn.RNNBase, inputs: Any) -> None:
    """Let a recurrent layer, which has a list of its weights, use those gathered for this pass."""
    rnn._flat_weights = [getattr(rnn, name) for name in rnn._flat_weights_names]


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Context in which each process has the whole weights of a model, if it is sharded.

    Forward passes then exchange nothing, so that processes may make different numbers of them.
    All processes must enter it.
    """
    parts: list[Any] = [module for module in model.modules() if hasattr(module, "unshard")]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()


def synchronise_batch_norm(model: nn.Module) -> None:
    """Let batch normalisation use the statistics of the batches of all processes."""
    norms: list[Any] = [module for module in model.modules() if hasattr(module, "synchronised")]
    for norm in norms:
        norm.synchronised = True


@contextmanager
def uncounted(model: nn.Module) -> Iterator[None]:
    """Context in which the batch of this process has no part in synchronised statistics."""
    norms: list[Any] = [module for module in model.modules() if hasattr(module, "counted")]
    for norm in norms:
        norm.counted = False
    try:
        yield
    finally:
        for norm in norms:
            norm.counted = True


def in_lockstep(model: nn.Module) -> bool:
    """Whether the processes wait for each other in the forward pass of a model."""
    return any(map(is_sharded, model.parameters())) or any(
        getattr(module, "synchronised", False) for module in model.modules()
    )
