"""Long log-probabilities in pieces, so that search and alignment take little memory."""

from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from src.text_encoder.decoders.base import BLANK
from src.text_encoder.decoders.beam import Hypothesis

AT_ONCE = 8  # pieces in a batch
AROUND = 12  # frames to either side of a cut that should be blank


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


def best_combinations(
    pieces: list[Pieces], hypotheses: list[list[list[Hypothesis]]], size: int, n: int
) -> list[list[Hypothesis]]:
    """Up to n hypotheses of each recording, the best first, from those of its pieces.

    Pieces are independent, so that the probability of a recording's tokens is the sum over all ways
    to share them out among the pieces, of the product of the pieces' probabilities.

    Args:
        pieces: batches of pieces.
        hypotheses: of each batch those of its pieces, the best first.
        size: number of recordings.
        n: maximum number of hypotheses of a recording.
    """
    whole: list[list[Hypothesis]] = [[(0.0, [])] for _ in range(size)]
    for part, found in zip(pieces, hypotheses, strict=True):
        for owner, own in zip(part.owners, found, strict=True):
            sums: dict[tuple[int, ...], float] = {}
            for (first, before), (second, after) in product(whole[owner], own):
                tokens = (*before, *after)
                sums[tokens] = float(np.logaddexp(sums.get(tokens, -np.inf), first + second))
            best = sorted(sums.items(), key=lambda pair: -pair[1])[:n]
            whole[owner] = [(score, list(tokens)) for tokens, score in best]
    return whole
