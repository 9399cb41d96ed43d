"""The conditions under which operations take their CPU implementations."""

import torch
from torch import Tensor


def is_traced() -> bool:
    """True while torch.compile, torch.export or torch.jit.trace records operations."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def use_cpu_path(x: Tensor) -> bool:
    """True if `x` is on a CPU and is not being traced.

    GPU kernels and compilers fuse the plain implementations better than they can be fused by
    hand, so the CPU implementations would only be slower there.
    """
    return x.device.type == "cpu" and not is_traced()


def prefers_channels_last(x: Tensor) -> bool:
    """True if depthwise convolutions of `x` are fast with channels last in memory, on CPUs.

    On GPUs cuDNN launches a kernel for each channel of some such images in bfloat16: 11 ms for
    2,176 channels, instead of 0.02 ms with time last, on an H200.
    """
    return x.device.type == "cpu"


def known_values(x: Tensor) -> list[int] | None:
    """The elements of `x` [N], or None while it is traced, when only its shape is known."""
    return None if is_traced() else x.tolist()
