"""Rotary position embedding (Su et al., arXiv 2104.09864) of queries and keys."""

import torch
from torch import Tensor

from src.models.ops.rotary import rotate_pairs

ROTARY_DIM = 32  # channels that are rotated, the first ones

Rotary = tuple[Tensor, Tensor]  # cosines and sines, [T, ROTARY_DIM / 2]


def rotary_frequencies() -> Tensor:
    """Angle in radians by which each pair of channels is rotated from frame to frame: [16]."""
    return 10000.0 ** (-torch.arange(0, ROTARY_DIM, 2).float() / ROTARY_DIM)


def rotary_embedding(frequencies: Tensor, frames: int) -> Rotary:
    """Cosines and sines [T, F] of the angles of every frame.

    Args:
        frequencies: in radians a frame, [F].
        frames: T.
    """
    positions = torch.arange(frames, device=frequencies.device, dtype=torch.float32)
    angles = positions[:, None] * frequencies
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate neighbouring channels of the first ROTARY_DIM as pairs: [..., T, K] to [..., T, K].

    Args:
        x: queries or keys, [..., T, K].
        rotary: cosines and sines from `rotary_embedding`.
    """
    cos, sin = (t.to(x.dtype) for t in rotary)
    return rotate_pairs(x, cos, sin)
