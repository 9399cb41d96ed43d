"""Rotary position embedding (Su et al., arXiv 2104.09864) of queries and keys."""

import torch
from torch import Tensor

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
    a, b = x[..., :ROTARY_DIM].unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)
    return torch.cat([rotated, x[..., ROTARY_DIM:]], dim=-1)
