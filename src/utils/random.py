"""Random numbers that are functions of a seed, independent of what was drawn before."""

import hashlib

import torch
from torch import Tensor


def item_seed(seed: int, epoch: int, index: int) -> int:
    """A seed for one item of one epoch: the same in any process, worker or resumed run.

    Returns:
        An integer in [0, 2**63), so that it fits an int64 tensor.
    """
    return salted_seed(seed, f"{epoch}/{index}")


def salted_seed(seed: int, salt: str | int) -> int:
    """A seed that follows from another one and a salt, in [0, 2**63)."""
    digest = hashlib.blake2b(f"{seed}/{salt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, salt: str | int = "") -> torch.Generator:
    """A CPU generator; each `salt` gives an independent stream of the same seed."""
    return torch.Generator().manual_seed(salted_seed(seed, salt))


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """A number drawn uniformly from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def uniform_table(seed: Tensor, size: int, salt: str) -> Tensor:
    """A row of uniform numbers for each seed, all rows at once, on the seeds' device.

    Number i of a row is a function of (seed, salt, i) alone: Sebastiano Vigna's splitmix64, whose
    i-th output doesn't need the ones before.

    Args:
        seed: int64 [B].
        size: numbers a row.
        salt: another one gives independent rows.

    Returns:
        [B, size] in [0, 1), float64.
    """
    return uniform_table_operator(seed, size, salt)


# An operator of its own, so that torch.compile leaves it alone: that of torch 2.11 takes the
# multiples below for indices of 32 bits and fails on GPUs, and corrupts memory on CPUs.
@torch.library.custom_op("triphone::uniform_table", mutates_args=())
def uniform_table_operator(seed: Tensor, size: int, salt: str) -> Tensor:
    """Computes `uniform_table`."""
    digest = hashlib.blake2b(salt.encode(), digest_size=8).digest()
    start = seed ^ int.from_bytes(digest, "big", signed=True)
    counter = torch.arange(1, size + 1, device=seed.device)
    state = mix(start)[:, None] + counter * signed(0x9E3779B97F4A7C15)
    return shifted(mix(state), 11).double() * 2.0**-53


@uniform_table_operator.register_fake
def shape_of_table(seed: Tensor, size: int, salt: str) -> Tensor:
    """An empty tensor of the shape and type of the table."""
    return seed.new_empty((len(seed), size), dtype=torch.float64)


def mix(state: Tensor) -> Tensor:
    """Splitmix64's scrambling of 64 bits (int64, wrapping around)."""
    state = (state ^ shifted(state, 30)) * signed(0xBF58476D1CE4E5B9)
    state = (state ^ shifted(state, 27)) * signed(0x94D049BB133111EB)
    return state ^ shifted(state, 31)


def shifted(state: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros; torch's own shift repeats the sign."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def signed(value: int) -> int:
    """An unsigned 64-bit number as the int64 of the same bits."""
    return value - (1 << 64) if value >> 63 else value
