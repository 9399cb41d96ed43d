"""Times of words and how certain a model is of them, from CTC log-probabilities."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.functional import forced_align

from src.text_encoder.base import WORD_START
from src.text_encoder.decoders.base import BLANK
from src.text_encoder.pieces import Pieces

PAUSE = 0.25  # seconds between two words


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
    """The words that tokens spell, which are their pieces one after the other.

    Their texts are those of `TextEncoder.decode(...).split()` unless the encoder doesn't keep words
    or has pieces for single bytes.

    Frame i of a model is centred at i * frame_seconds, as it is after a centred STFT and
    symmetrically padded convolutions, and stands for half a frame to either side. A word lasts
    from its first token's first frame to its last token's last one; but where the next word follows
    without a pause, one begins where the other ends: in the middle of the space or the blanks
    between them, which have no sound of their own.

    Args:
        spans: of the tokens of a recording, in order.
        vocabulary: tokens by id; a space or `WORD_START` in them separates words.
        frame_seconds: time between two frames.

    Returns:
        Words with the smallest posterior of their tokens as confidence.
    """
    texts: list[str] = []
    members: list[list[int]] = []  # indices of each word's spans
    inside = False
    for i, span in enumerate(spans):
        for character in vocabulary[span.token].replace(WORD_START, " "):
            if not inside and not character.isspace():
                texts.append("")
                members.append([])
            inside = not character.isspace()
            if inside:
                texts[-1] += character
                members[-1].append(i)
    starts: list[float] = [spans[own[0]].start for own in members]
    ends: list[float] = [spans[own[-1]].end for own in members]
    for k, gap in enumerate(b - a for a, b in zip(ends, starts[1:], strict=False)):
        if gap * frame_seconds < PAUSE:
            ends[k] = starts[k + 1] = ends[k] + gap / 2
    return [
        Word(
            text,
            max(0.0, (start - 0.5) * frame_seconds),
            (end - 0.5) * frame_seconds,
            min(spans[i].posterior for i in own),
        )
        for text, start, end, own in zip(texts, starts, ends, members, strict=True)
    ]
