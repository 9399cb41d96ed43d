"""ReLU that torch.compile makes fast on CPUs.

For the gradient of `plain_relu` inductor (torch 2.11) stores a mask of bools element by element, a
twentieth of the time of a training step of a small MossFormer2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def plain_relu(x: Tensor) -> Tensor:
    """ReLU by torch's operation."""
    return F.relu(x)


def relu(x: Tensor) -> Tensor:
    """ReLU: x where it is positive, else 0.

    Under torch.compile on CPUs it is x / 2 + |x| / 2, the same but for infinite and subnormal x.
    Its gradient at 0 is 1/2, and x is saved for it instead of a mask.

    Args:
        x: of any shape.

    Returns:
        The shape of `x`.
    """
    if x.device.type == "cpu" and torch.compiler.is_dynamo_compiling():
        return x / 2 + x.abs() / 2
    return plain_relu(x)
