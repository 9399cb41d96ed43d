"""torch.compile for training steps; evaluations, whose lengths differ, run without it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from src.models.ops.checkpointing import blocks


def compile_training(model: nn.Module) -> None:
    """Let the next steps compile a model, in place: its blocks, or all of a model without any.

    Blocks are compiled one by one, as torch recommends for repeated layers: that takes half of the
    time, gives as fast steps, and suits shards.
    """
    for part in blocks(model) or [model]:
        part.compile()


def is_compiled(model: nn.Module) -> bool:
    """Whether a model, or a part of it, is compiled in training."""
    return any(
        getattr(module, "_compiled_call_impl", None) is not None for module in model.modules()
    )


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Context in which a model isn't compiled.

    The batches of an evaluation have many lengths, for each of which compiling would take longer
    than it spares.
    """
    if not is_compiled(model):  # sparing the second that importing the compiler takes
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
