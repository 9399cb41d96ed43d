"""Activation checkpointing: less memory for another forward computation in the backward pass.

The plain way is to call the function.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
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
