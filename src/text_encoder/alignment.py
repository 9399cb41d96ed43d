"""Times of words and how certain a model is of them, from CTC log-probabilities."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.functional import forced_align

from src.text_encoder.base import WORD_START
from src.text_encoder.decoders.base import BLANK
from src.text_encoder.pieces import Pieces


@dataclass(frozen=True)
class TokenSpan:
    """A token on the best path of a text.

    Attributes:
        token: its id.
        start, end: its first frame and the one after its last.
        posterior: its largest posterior probability in these frames.
    """

    token: int
    start: int
    end: int
    posterior: float


@dataclass(frozen=True)
class Word:
    """A word with its time.

    Attributes:
        text: of the word.
        start, end: in seconds.
        confidence: in [0, 1].
    """

    text: str
    start: float
    end: float
    confidence: float


def align(log_probs: Tensor, tokens: list[int], first: int = 0) -> list[TokenSpan]:
    """The most probable path of some tokens (the Viterbi path of CTC, Graves et al., 2006).

    Args:
        log_probs: [T, V], natural logarithms; token 0 is the blank.
        tokens: ids without blanks, for which there are enough frames. Memory grows with T times
            their number.
        first: number of the first frame.
    """
    if not tokens:
        return []
    log_probs = log_probs.float().cpu()
    path = forced_align(log_probs[None], torch.tensor([tokens], dtype=torch.int32))[0][0]
    posteriors = log_probs.gather(1, path.long()[:, None])[:, 0].exp().clamp(0, 1)
    ids, counts = torch.unique_consecutive(path, return_counts=True)
    spans, start = [], 0
    for token, count in zip(ids.tolist(), counts.tolist(), strict=True):
        end = start + count
        if token != BLANK:
            posterior = float(posteriors[start:end].max())
            spans.append(TokenSpan(token, first + start, first + end, posterior))
        start = end
    return spans


def align_batch(pieces: Pieces, tokens: list[list[int]]) -> list[list[TokenSpan]]:
    """The best path of the tokens of each piece, in frames of its recording."""
    log_probs, lengths = (pieces.outputs[key] for key in ("log_probs", "log_probs_length"))
    return [
        align(one[:length], ids, first)
        for one, length, ids, first in zip(
            log_probs, lengths.tolist(), tokens, pieces.starts, strict=True
        )
    ]


def words_of(spans: list[TokenSpan], vocabulary: list[str], frame_seconds: float) -> list[Word]:
    """The words that tokens spell; their texts are those of `TextEncoder.decode(...).split()`.

    Frame i of a model is centred at i * frame_seconds, as it is after a centred STFT and
    symmetrically padded convolutions, and stands for half a frame to either side. A word lasts
    from its first token's first frame to its last token's last one.

    Args:
        spans: of the tokens of a recording, in order.
        vocabulary: tokens by id; a space or `WORD_START` in them separates words.
        frame_seconds: time between two frames.

    Returns:
        Words with the smallest posterior of their tokens as confidence.
    """
    words: list[tuple[str, list[TokenSpan]]] = []
    inside = False
    for span in spans:
        for character in vocabulary[span.token].replace(WORD_START, " "):
            if character.isspace():
                inside = False
                continue
            if not inside:
                words.append(("", []))
                inside = True
            text, own = words[-1]
            words[-1] = (text + character, own if span in own[-1:] else [*own, span])
    return [
        Word(
            text,
            max(0.0, (own[0].start - 0.5) * frame_seconds),
            (own[-1].end - 0.5) * frame_seconds,
            min(span.posterior for span in own),
        )
        for text, own in words
    ]
