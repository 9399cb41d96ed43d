"""The states of the global random generators, as plain containers and tensors."""

import random
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed

from src.utils.random import salted_seed


def random_state() -> dict[str, Any]:
    """The states of the global generators of Python, NumPy and torch in this process."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states returned by `random_state`."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def set_random_state_of(process: int, states: list[dict[str, Any]]) -> None:
    """Restore the state of a process, or one derived from another's if it wasn't there before.

    Args:
        process: its number.
        states: as returned by `random_state`, of the processes that there were.
    """
    set_random_state(states[process % len(states)])
    if process >= len(states):
        set_seed(salted_seed(int(torch.randint(1 << 62, ())), process) % (1 << 32))
