"""Long log-probabilities in pieces, so that search and alignment take little memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from src.text_encoder.decoders.base import BLANK
from src.text_encoder.decoders.beam import Hypothesis

AT_ONCE = 8  # pieces in a batch
AROUND = 12  # frames to either side of a cut that should be blank
TRIED = 16  # pairs of hypotheses for each one that is kept
MODULUS = 2**127 - 1  # a prime number
BASE = 0x5DEECE66D2B5E1A7F39CC0605CEDC835  # below it, without a pattern


@dataclass(frozen=True)
class Pieces:
    """A batch of pieces of recordings.

    Attributes:
        outputs: `log_probs` [N, T, V] and `log_probs_length` [N].
        owners: index of each piece's recording.
        starts: each piece's first frame in its recording.
    """

    outputs: dict[str, Any]
    owners: list[int]
    starts: list[int]


def in_pieces(outputs: dict[str, Any], size: int) -> list[Pieces]:
    """The outputs of a model as batches of pieces; each recording is one piece unless it's long.

    Args:
        outputs: of a model; with `windows` [B] (see `src.utils.windows`) a recording is cut into
            at least so many pieces, in pauses. Without, the outputs themselves are the one batch.
        size: number of recordings.
    """
    if "windows" not in outputs:
        return [Pieces(outputs, list(range(size)), [0] * size)]
    found = []
    log_probs, lengths = outputs["log_probs"], outputs["log_probs_length"].tolist()
    for owner, (length, count) in enumerate(zip(lengths, outputs["windows"].tolist(), strict=True)):
        cuts = cuts_in_pauses(log_probs[owner, :length], -(-length // count))
        found += [(owner, start, log_probs[owner, start:end]) for start, end in pairwise(cuts)]
    return [batch_of(found[i : i + AT_ONCE]) for i in range(0, len(found), AT_ONCE)]


def batch_of(pieces: list[tuple[int, int, Tensor]]) -> Pieces:
    """A batch of pieces that are given as (owner, start, log-probabilities [T, V])."""
    owners, starts, parts = zip(*pieces, strict=True)
    outputs = {
        "log_probs": pad_sequence(list(parts), batch_first=True),
        "log_probs_length": torch.tensor([len(part) for part in parts]),
    }
    return Pieces(outputs, list(owners), list(starts))


def cuts_in_pauses(log_probs: Tensor, most: int) -> list[int]:
    """Limits of consecutive pieces of at most `most` frames, in the clearest pauses.

    A pause is where the blank is the most probable token, and certain over half a second or so. A
    cut there changes no path of the tokens on both sides.

    Args:
        log_probs: [T, V], natural logarithms.
        most: frames of a piece.

    Returns:
        0, the cuts, and T.
    """
    blank = log_probs[:, BLANK].exp().double()
    padded = torch.nn.functional.pad(blank.cumsum(0), (1, 0))
    at = torch.arange(len(blank), device=blank.device)
    low, high = (at - AROUND).clamp(min=0), (at + AROUND + 1).clamp(max=len(blank))
    clearness = (padded[high] - padded[low]) / (high - low)
    clearness += (log_probs.argmax(-1) == BLANK).double()
    cuts = [0]
    while len(blank) - cuts[-1] > most:
        earliest = cuts[-1] + most // 2 + 1
        cuts.append(earliest + int(clearness[earliest : cuts[-1] + most + 1].argmax()))
    return [*cuts, len(blank)]


def joined(pieces: list[Pieces], values: list[list[list]], size: int) -> list[list]:
    """For each recording the concatenation of a list that each of its pieces has.

    Args:
        pieces: batches of pieces.
        values: of each batch the lists of its pieces.
        size: number of recordings.
    """
    whole: list[list] = [[] for _ in range(size)]
    for part, own in zip(pieces, values, strict=True):
        for owner, value in zip(part.owners, own, strict=True):
            whole[owner] += value
    return whole


@dataclass(frozen=True)
class Combination:
    """Hypotheses of consecutive pieces, one each, without a copy of all their tokens.

    Attributes:
        score: of all alignments that are summed in it.
        mark: of the tokens, see `mark_of`; equal tokens have equal marks.
        before: hypotheses of the pieces before the last one; None: there are none.
        last: token ids of the last piece.
    """

    score: float = 0.0
    mark: int = 0
    before: "Combination | None" = None
    last: Sequence[int] = ()

    def tokens(self) -> list[int]:
        """Token ids of all pieces."""
        parts: list[Sequence[int]] = []
        here: Combination | None = self
        while here is not None:
            parts.append(here.last)
            here = here.before
        return [token for part in reversed(parts) for token in part]


def best_combinations(
    pieces: list[Pieces], hypotheses: list[list[list[Hypothesis]]], size: int, n: int
) -> list[list[Hypothesis]]:
    """Up to n hypotheses of each recording, the best first, from those of its pieces.

    Pieces are independent, so that the probability of a recording's tokens is the sum over all ways
    to share them out among the pieces, of the product of the pieces' probabilities. A piece without
    hypotheses is left out; a recording of such pieces alone has none either.

    Args:
        pieces: batches of pieces.
        hypotheses: of each batch those of its pieces, the best first.
        size: number of recordings.
        n: maximum number of hypotheses of a recording.
    """
    whole: list[list[list[Hypothesis]]] = [[] for _ in range(size)]
    for part, found in zip(pieces, hypotheses, strict=True):
        for owner, own in zip(part.owners, found, strict=True):
            if own:
                whole[owner].append(own)
    return [combined(parts, n) for parts in whole]


def combined(parts: list[list[Hypothesis]], n: int) -> list[Hypothesis]:
    """Up to n hypotheses of a recording, the best first, from those of its pieces.

    Args:
        parts: hypotheses of each piece, at least one, the best first.
        n: maximum number of hypotheses.
    """
    if not parts:
        return []
    best = [Combination()]
    for own in parts:
        best = extended(best, own, n)
    return [(one.score, one.tokens()) for one in best]


def extended(before: list[Combination], own: list[Hypothesis], n: int) -> list[Combination]:
    """The n best combinations with one more piece; those of equal tokens are one.

    Only the best `TRIED` * n pairs are looked at. The pair of the i-th and the j-th best has i * j
    pairs, itself among them, that are as good, so that most pairs needn't be made.

    Args:
        before: combinations, the best first.
        own: hypotheses of the piece, the best first.
        n: maximum number of combinations.
    """
    most, suffixes = TRIED * n, [(mark_of(after), len(after)) for _, after in own]
    pairs = (
        (one.score + own[j][0], i, j)
        for i, one in enumerate(before)
        for j in range(min(len(own), most // (i + 1)))
    )
    sums: dict[int, Combination] = {}
    for score, i, j in nlargest(most, pairs, key=lambda pair: pair[0]):
        suffix, length = suffixes[j]
        mark = (before[i].mark * pow(BASE, length, MODULUS) + suffix) % MODULUS
        if mark in sums:
            sums[mark] = replace(sums[mark], score=float(np.logaddexp(sums[mark].score, score)))
        else:
            sums[mark] = Combination(score, mark, before[i], own[j][1])
    return sorted(sums.values(), key=lambda one: -one.score)[:n]


def mark_of(tokens: Sequence[int]) -> int:
    """A number that tells sequences of tokens apart: their polynomial hash (Karp and Rabin, 1987).

    That of two sequences after each other follows from theirs, in a time that doesn't grow with
    the sequences. Two different ones share a number with a probability below 10^-30.
    """
    mark = 0
    for token in tokens:
        mark = (mark * BASE + token + 1) % MODULUS
    return mark
