"""Activation checkpointing: less memory for another forward computation in the backward pass.

The plain way is to call the function.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpointed(function: Callable[..., Tensor], *inputs: Any, has_dropout: bool = True) -> Tensor:
    """Compute `function(*inputs)` and save only `inputs` for backward, not what lies between.

    Where gradients are disabled nothing is saved anyway, and the function is simply called.

    Args:
        function: what to compute; called again in the backward pass.
        inputs: its arguments.
        has_dropout: whether it draws random numbers, so that the state of the generators has to be
            saved for the second call, too.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=has_dropout)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The layers that a model repeats: the entries of its lists of modules that have parts."""
    found: list[nn.Module] = []
    inner: set[nn.Module] = set()
    for module in model.modules():
        if module in inner:
            continue
        for entry in module if isinstance(module, nn.ModuleList) else ():
            if any(True for _ in entry.children()):
                found.append(entry)
                inner.update(entry.modules())
    return found


def checkpoint_activations(model: nn.Module) -> None:
    """Let training save only the inputs of blocks, and compute the blocks again in backward."""
    for block in blocks(model):
        block.forward = partial(recomputed, block, block.forward)  # type: ignore[method-assign]


def recomputed(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """The output of a block, of which only the inputs are saved for backward.

    Args:
        block: with the forward pass.
        forward: called with the inputs, in training again in the backward pass.
        inputs, named: of the block.
    """
    if not (block.training and torch.is_grad_enabled()):
        return forward(*inputs, **named)
    norms = [module for module in block.modules() if hasattr(module, "running_mean")]
    contexts: dict[str, Any] = {}
    if norms:
        before = [{key: b.clone() for key, b in norm.named_buffers()} for norm in norms]
        contexts["context_fn"] = lambda: (nullcontext(), buffers_replaced(norms, before))
    return checkpoint(forward, *inputs, use_reentrant=False, **contexts, **named)


@contextmanager
def buffers_replaced(
    modules: Sequence[nn.Module], buffers: Sequence[dict[str, Tensor]]
) -> Iterator[None]:
    """Context in which modules have other buffers, so that their own aren't updated twice."""
    own = [dict(module.named_buffers()) for module in modules]
    try:
        for module, before in zip(modules, buffers, strict=True):
            module._buffers.update(before)
        yield
    finally:
        for module, after in zip(modules, own, strict=True):
            module._buffers.update(after)
