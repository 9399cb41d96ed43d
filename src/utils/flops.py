"""Floating-point operations of matrix products and convolutions, and the machine's rate of them."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from src.utils.random import generator

aten = torch.ops.aten
SIZES = {"cpu": 1024, "cuda": 8192}  # of the matrices that measure the rate
SECONDS = 0.1  # for which it is measured at least


def recurrent_flops(x: Tensor, *arguments: Any, **_: Any) -> int:
    """Operations of a recurrent layer: each frame is multiplied by all matrices of weights."""
    weights: list[Tensor] = []
    for argument in arguments:
        weights += argument if isinstance(argument, list) else [argument]
    matrices = [w.numel() for w in weights if isinstance(w, Tensor) and w.dim() == 2]
    frames = math.prod(x.shape[:-1])
    return 2 * frames * sum(matrices)


# torch's own counter leaves out recurrent layers.
FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    aten.mkldnn_rnn_layer: lambda x, w0, w1, *_, **__: recurrent_flops(x, w0, w1),
    aten._cudnn_rnn: lambda x, weights, *_, **__: recurrent_flops(x, weights),
}


class FlopCounter(TorchDispatchMode):
    """Counts the floating-point operations inside of its `with` block.

    Attributes:
        flops: of matrix products, convolutions, attention and recurrent layers; a multiplication
            and an addition are two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict | None = None
    ) -> Any:
        """Compute an operation, and count it."""
        out = func(*args, **(kwargs or {}))
        formula = FORMULAS.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


@functools.cache
def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product, measured once per process.

    The best of several products, since other work on the machine can only slow them down.

    Args:
        device: of the matrices.
        dtype: of the matrices, that of training.
    """
    size = SIZES.get(device.type, 1024)
    draw = generator(0, "matrix rate")
    a = torch.randn(size, size, generator=draw).to(device, dtype)
    times: list[float] = []
    while len(times) < 4 or sum(times) < SECONDS:  # the first one is a warm-up
        start = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times[1:])
