"""CTC by its definition: sums over all alignments."""

import math
from collections import defaultdict
from itertools import groupby, product

import torch
from torch import Tensor


def log_probs(batch: int, frames: int, tokens: int, seed: int, scale: float = 1.5) -> Tensor:
    """Random log-probabilities [B, T, V] in double precision."""
    draw = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(batch, frames, tokens, generator=draw, dtype=torch.float64)
    return logits.log_softmax(dim=-1)


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in groupby(path) if token != 0)


def all_sequences(frames: Tensor) -> dict[tuple[int, ...], float]:
    """Token ids -> log-probability, summed over all alignments; frames [T, V]."""
    total: dict[tuple[int, ...], float] = defaultdict(float)
    table = frames.exp().tolist()
    for path in product(range(frames.shape[1]), repeat=len(frames)):
        total[collapse(path)] += math.prod(
            row[token] for row, token in zip(table, path, strict=True)
        )
    return {tokens: math.log(p) for tokens, p in total.items()}


def best_first(scores: dict[tuple[int, ...], float]) -> list[tuple[float, list[int]]]:
    ranked = sorted(scores.items(), key=lambda pair: -pair[1])
    return [(score, list(tokens)) for tokens, score in ranked]
