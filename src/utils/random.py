"""Randomness that is a function of what it is for, never of what ran before it."""

import hashlib

import torch


def item_seed(seed: int, epoch: int, index: int) -> int:
    """A seed for one item of one epoch: the same in any process, worker or resumed run.

    Returns:
        An integer in [0, 2**63), so that it fits an int64 tensor.
    """
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, salt: str | int = "") -> torch.Generator:
    """A CPU generator for `seed`; another `salt` gives an independent stream of the same seed."""
    digest = hashlib.blake2b(f"{seed}/{salt}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """A number drawn uniformly from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()
