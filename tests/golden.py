"""Reference inputs and outputs, made by running the reference implementations."""

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

FIXTURES = Path(__file__).parent / "fixtures"


def golden(name: str) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a fixture, and what it says about itself."""
    tensors = load_file(FIXTURES / f"{name}.safetensors")
    return tensors, json.loads((FIXTURES / f"{name}.json").read_text())


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
