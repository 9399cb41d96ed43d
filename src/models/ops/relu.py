"""ReLU that torch.compile makes fast on CPUs.

For the gradient of `plain_relu` inductor (torch 2.11) stores a mask of bools one by one, which
takes ten times as long as the ReLU itself.
"""

import torch.nn.functional as F
from torch import Tensor

from src.models.ops.dispatch import is_compiled


def plain_relu(x: Tensor) -> Tensor:
    """ReLU by torch's operation."""
    return F.relu(x)


def relu(x: Tensor) -> Tensor:
    """ReLU: x where it is positive, else 0.

    Under torch.compile on CPUs it is (x + |x|) / 2, the same for finite x; its gradient at 0 is
    1/2.

    Args:
        x: of any shape.

    Returns:
        The shape of `x`.
    """
    if x.device.type == "cpu" and is_compiled():
        return (x + x.abs()) / 2
    return plain_relu(x)
