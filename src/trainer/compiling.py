"""torch.compile for training steps; evaluations, whose lengths differ, run without it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from src.models.ops.checkpointing import blocks

logger = logging.getLogger(__name__)


def compile_training(model: nn.Module, sharded: bool = False) -> None:
    """Let the next steps compile a model.

    Blocks that are alike are compiled one by one, as torch recommends for repeated layers: on two
    cores that takes half of the time for a small MossFormer2, whose steps are as fast. Other models
    are compiled as a whole.

    Args:
        model: in place.
        sharded: whether its blocks are sharded one by one, so that they must be compiled so, too.
    """
    from torch._inductor import config as inductor  # here, since importing it takes a second

    logger.info("torch.compile: the first steps take minutes.")
    # Inductor's cache ignores the number of threads unless it is set here: what was compiled for
    # two threads would also run with one.
    inductor.cpp.threads = torch.get_num_threads()
    parts = blocks(model)
    for part in parts if sharded or alike(parts) else [model]:
        part.compile()


def check_checkpointing(model: nn.Module) -> None:
    """Check that blocks which are computed again in the backward pass can be compiled.

    Raises:
        ValueError: they have batch norm, whose statistics are set aside meanwhile.
    """
    if any(hasattr(module, "running_mean") for module in model.modules()):
        raise ValueError(
            "config, activation_checkpointing: true can't be combined with compile=true for a "
            "model with batch norm."
        )


def alike(parts: Sequence[nn.Module]) -> bool:
    """Whether there are parts, all of one class with parameters of the same shapes.

    Not those of torch's own classes, whose forward passes the compiler skips when they are called
    by themselves; nor different ones, which it would take for as many versions of one function, of
    which it compiles eight.
    """
    shapes = {
        (type(part), tuple((name, p.shape) for name, p in part.named_parameters()))
        for part in parts
    }
    return len(shapes) == 1 and not type(parts[0]).__module__.startswith("torch.")


def is_compiled(model: nn.Module) -> bool:
    """Whether a model, or a part of it, is compiled in training."""
    return any(
        getattr(module, "_compiled_call_impl", None) is not None for module in model.modules()
    )


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Context in which a model isn't compiled.

    The batches of an evaluation have many lengths, for each of which compiling would take longer
    than it saves.
    """
    if not is_compiled(model):  # saves the second that importing the compiler takes
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
