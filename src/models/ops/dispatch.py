"""The condition under which operations take their CPU implementations."""

import torch
from torch import Tensor


def use_cpu_path(x: Tensor) -> bool:
    """True if `x` is on a CPU and is not being traced by torch.compile.

    GPU kernels and the compiler fuse the plain implementations better than they can be fused by
    hand, so the CPU implementations would only be slower there.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
