"""What the self-test of a checkpoint is made of."""

from pathlib import Path

import torch
from torch import Tensor

TOLERANCE = 1e-3  # relative, of a self-test: allows for another device, not for another model


def test_signal(sample_rate: int) -> Tensor:
    """One second of a harmonic tone of rising pitch with noise, deterministic: [sample_rate]."""
    time = torch.arange(sample_rate, dtype=torch.float64) / sample_rate
    phase = 2 * torch.pi * (120 * time + 40 * time**2)
    tone = sum(torch.sin(k * phase) / k for k in range(1, 12))
    noise = torch.randn(sample_rate, generator=torch.Generator().manual_seed(0))
    return (0.1 * tone * torch.sin(torch.pi * time) + 0.01 * noise).float()


def comparable(value: object) -> bool:
    """Whether a value is a tensor of floating-point numbers that isn't empty."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.numel() > 0


def compare(outputs: dict[str, Tensor], expected: dict[str, Tensor], source: Path) -> None:
    """Check that outputs are those that were stored.

    Args:
        outputs: by name.
        expected: stored with the weights, by name; other outputs aren't compared.
        source: where they were stored, for the message.

    Raises:
        ValueError: one differs; names the source, the output and the difference.
    """
    for name, wanted in expected.items():
        if name not in outputs or outputs[name].shape != wanted.shape:
            raise ValueError(
                f"{source}: self-test failed, the model has no output {name} of this shape."
            )
        difference = (outputs[name] - wanted).abs().max().item()
        limit = TOLERANCE * max(wanted.abs().max().item(), 1.0)
        if not difference <= limit:
            raise ValueError(
                f"{source}: self-test failed, {name} differs by {difference:.2g} from the "
                f"stored output; at most {limit:.2g} is allowed."
            )
