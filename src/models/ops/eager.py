"""When to take the ways that are written by hand for CPUs: strips, groups, lean backward passes."""

import torch
from torch import Tensor


def eager_on_cpu(x: Tensor) -> bool:
    """Whether x is computed on a CPU step by step: a GPU and the compiler have better ways."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
