"""Prefix beam search for CTC, all utterances and all beams at once.

The recursion over prefixes is that of Hannun et al., "First-Pass Large Vocabulary Continuous
Speech Recognition using Bi-Directional Recurrent DNNs" (arXiv 1408.2873), after Graves's thesis.

In shapes, N is the number of prefixes of all utterances together, C of tokens tried in a frame.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from torch import Tensor

from src.text_encoder.base import TextEncoder
from src.text_encoder.decoders.base import BLANK, CTCDecoder
from src.text_encoder.decoders.ngram import NgramModel
from src.text_encoder.decoders.prefix_trie import PrefixTrie
from src.text_encoder.decoders.word_scorer import WordScorer

NEVER = -np.inf

Hypothesis = tuple[float, list[int]]  # score, token ids


@dataclass
class Beam:
    """The prefixes of all utterances, in the order of the utterances; each array is [N].

    A prefix's alignments end in a blank or in its last token. The two kinds have a score each,
    as what the next frame may do depends on it. Scores are natural logarithms.
    """

    item: np.ndarray  # the utterance
    node: np.ndarray  # the prefix's number in the trie
    parent: np.ndarray  # that of the prefix without its last token; -1 for the empty one
    last: np.ndarray  # its last token; the blank for the empty one
    blank: np.ndarray  # log-probability of all alignments that end in a blank
    token: np.ndarray  # of all that end in the last token
    bonus: np.ndarray  # what its words have earned
    word: np.ndarray  # what the word under way will earn if it ends here

    @classmethod
    def start(cls, size: int) -> "Beam":
        """One empty prefix for each utterance."""
        roots, zeros = np.arange(size), np.zeros(size)
        nothing = np.full(size, NEVER)
        no_parent, no_token = np.full(size, -1), np.full(size, BLANK)
        return cls(roots, roots, no_parent, no_token, zeros, nothing, zeros, zeros)

    def __getitem__(self, rows: np.ndarray) -> "Beam":
        """Some of the prefixes."""
        return Beam(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def total(self) -> np.ndarray:
        """Log-probability of each prefix."""
        return np.logaddexp(self.blank, self.token)


class BeamSearchDecoder(CTCDecoder):
    """Finds the most probable token sequences, each summed over its alignments.

    With a language model the score is that of Deep Speech 2 (arXiv 1512.02595, section 3.8),
    log p_ctc + alpha * log p_lm + beta * words; a word counts as soon as it ends.

    Args:
        beam_size: how many (prefix, ending) pairs of an utterance outlive a frame, where an
            ending is a blank or the last token; with all of them the result is exact.
        token_threshold: tokens whose log-probability in a frame is below it don't lengthen a
            prefix there. Makes large vocabularies fast; None tries all.
        language_model: an ARPA file, or the model.
        alpha: weight of the language model.
        beta: added for each word.

    Raises:
        ValueError: beam_size is less than 1.
        FileNotFoundError: there is no such file.
    """

    def __init__(
        self,
        beam_size: int = 100,
        token_threshold: float | None = None,
        language_model: NgramModel | Path | str | None = None,
        alpha: float = 0.5,
        beta: float = 1.0,
    ):
        if beam_size < 1:
            raise ValueError(f"beam search: beam_size is {beam_size}, wanted 1 or more.")
        if isinstance(language_model, str | Path):
            language_model = NgramModel.from_arpa(Path(language_model))
        self.beam_size, self.token_threshold = beam_size, token_threshold
        self.language_model, self.alpha, self.beta = language_model, alpha, beta
        self.vocabulary: list[str] | None = None

    def set_text_encoder(self, text_encoder: TextEncoder) -> None:
        """Learn how tokens make words, which the language model needs."""
        self.vocabulary = text_encoder.vocabulary

    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[int]]:
        """The best token ids of each utterance; log_probs [B, T, V], log_probs_length [B]."""
        found = self.n_best(log_probs, log_probs_length, 1)
        return [hypotheses[0][1] if hypotheses else [] for hypotheses in found]

    def n_best(self, log_probs: Tensor, log_probs_length: Tensor, n: int) -> list[list[Hypothesis]]:
        """Up to n hypotheses of each utterance as (score, token ids), the best first.

        Args:
            log_probs: [B, T, V], natural logarithms; token 0 is the blank.
            log_probs_length: [B].
            n: hypotheses wanted; no more than the beam holds come out.

        Raises:
            ValueError: a length beyond T, or there is a language model but no text encoder.
        """
        frames = log_probs.detach().cpu().double().numpy()
        lengths = log_probs_length.cpu().numpy()
        size, most, vocabulary = frames.shape
        if len(lengths) and lengths.max() > most:
            raise ValueError(f"log_probs has {most} frames, log_probs_length says {lengths.max()}.")
        trie = PrefixTrie(size, vocabulary)
        scorer = self.build_scorer(trie)
        beam = Beam.start(size)
        found: list[list[Hypothesis]] = [[] for _ in range(size)]
        for t in range(lengths.max(initial=0) + 1):
            ended = lengths[beam.item] == t
            if ended.any():
                read_hypotheses(beam[ended], trie, scorer, n, found)
                beam = beam[~ended]
            if len(beam.item):
                beam = self.advance(beam, frames[:, t], trie, scorer)
        return found

    def build_scorer(self, trie: PrefixTrie) -> WordScorer | None:
        """What gives words their bonus, if there is a language model."""
        if self.language_model is None:
            return None
        if self.vocabulary is None:
            raise ValueError("beam search: a language model needs set_text_encoder() first.")
        return WordScorer(self.language_model, self.vocabulary, trie, self.alpha, self.beta)

    def advance(
        self, beam: Beam, frame: np.ndarray, trie: PrefixTrie, scorer: WordScorer | None
    ) -> Beam:
        """The beam after one more frame; frame is [B, V]."""
        tokens, columns, tried = choose_tokens(frame, self.token_threshold)
        scores = extend(beam, frame, columns, tried)
        ranked = scores + beam.bonus[:, None]
        if scorer is not None:
            ends_word = scorer.starts_word[tokens]
            ranked[:, :-1] += np.where(ends_word, beam.word[:, None], 0.0)
        chosen = best_of_each(ranked, beam.item, self.beam_size)
        return grow(beam, scores, chosen, tokens, trie, scorer)


def choose_tokens(
    frame: np.ndarray, threshold: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens that are tried in a frame [B, V].

    Returns:
        The tokens [C], the blank first; the column [V] of each, where those left out share the
        column C; and log-probabilities [B, C + 1], where column C is impossible, and so is a
        token that only another utterance tries.
    """
    tokens = np.arange(frame.shape[1])
    impossible = np.full((len(frame), 1), NEVER)
    if threshold is None:
        return tokens, tokens, np.concatenate([frame, impossible], axis=1)
    tries = frame >= threshold
    tries[:, BLANK] = True
    tokens = np.flatnonzero(tries.any(axis=0))
    columns = np.full(frame.shape[1], len(tokens))
    columns[tokens] = np.arange(len(tokens))
    tried = np.where(tries, frame, NEVER)[:, tokens]
    return tokens, columns, np.concatenate([tried, impossible], axis=1)


def extend(beam: Beam, frame: np.ndarray, columns: np.ndarray, tried: np.ndarray) -> np.ndarray:
    """Log-probabilities [N, C + 1] of all that each prefix may become in a frame.

    Column 0 is the prefix itself, ending in a blank; the last column is the prefix itself,
    ending in its last token; the columns between are the prefix and one more token.

    Args:
        beam: before the frame.
        frame: [B, V].
        columns: [V], from choose_tokens.
        tried: [B, C + 1], from choose_tokens.
    """
    total, column = beam.total, columns[beam.last]
    scores = total[:, None] + tried[beam.item]
    # To say the last token again needs a blank in between; without it the token only lasts.
    rows = np.arange(len(total))
    scores[rows, column] = beam.blank + tried[beam.item, column]
    lasting = beam.token + frame[beam.item, beam.last]
    # A prefix that another one grows into gets what that one gives, in one place.
    child, parent = families(beam)
    given = scores[parent, column[child]]
    lasting[child] = np.logaddexp(lasting[child], given)
    scores[parent, column[child]] = NEVER
    scores[:, 0] = total + frame[beam.item, BLANK]
    scores[:, -1] = lasting
    return scores


def families(beam: Beam) -> tuple[np.ndarray, np.ndarray]:
    """Rows of prefixes whose parents are in the beam too, and the rows of those parents."""
    order = np.argsort(beam.node)
    place = np.searchsorted(beam.node, beam.parent, sorter=order)
    row = order[np.minimum(place, len(order) - 1)]
    child = np.flatnonzero(beam.node[row] == beam.parent)
    return child, row[child]


def best_of_each(scores: np.ndarray, item: np.ndarray, size: int) -> np.ndarray:
    """Where the best `size` scores of each utterance stand; scores [N, C + 1], item [N]."""
    limits = np.flatnonzero(np.diff(item, prepend=-1, append=-1))
    parts = [best(scores[i:j], size) for i, j in zip(limits, limits[1:], strict=False)]
    return np.concatenate(parts)


def best(scores: np.ndarray, size: int) -> np.ndarray:
    """Where the best `size` scores of a table stand; of equals, those that come first."""
    if scores.size <= size:
        return scores > NEVER
    lowest = np.partition(scores, scores.size - size, axis=None)[scores.size - size]
    chosen = scores > lowest
    if lowest > NEVER:
        equals = np.flatnonzero(scores == lowest)
        chosen.flat[equals[: size - chosen.sum()]] = True
    return chosen


def grow(
    beam: Beam,
    scores: np.ndarray,
    chosen: np.ndarray,
    tokens: np.ndarray,
    trie: PrefixTrie,
    scorer: WordScorer | None,
) -> Beam:
    """The beam of what was chosen: prefixes that stay as they are, and longer ones."""
    ending = np.where(chosen[:, [0, -1]], scores[:, [0, -1]], NEVER)
    stay = np.flatnonzero(chosen[:, 0] | chosen[:, -1])
    source, column = np.nonzero(chosen[:, 1:-1])
    last = tokens[column + 1]
    nodes = trie.extend(beam.node[source], last)
    kept = beam[stay]
    kept.blank, kept.token = ending[stay, 0], ending[stay, 1]
    longer = beam[source]
    longer.parent, longer.node, longer.last = longer.node, nodes, last
    longer.blank, longer.token = np.full(len(nodes), NEVER), scores[source, column + 1]
    if scorer is not None:
        longer.bonus = longer.bonus + np.where(scorer.starts_word[last], longer.word, 0.0)
        longer.word = scorer.bonus_of(nodes)
    parts = zip(*([getattr(b, f.name) for f in fields(Beam)] for b in (kept, longer)), strict=True)
    both = Beam(*(np.concatenate(part) for part in parts))
    return both[np.argsort(both.item, kind="stable")]


def read_hypotheses(
    beam: Beam,
    trie: PrefixTrie,
    scorer: WordScorer | None,
    n: int,
    found: list[list[Hypothesis]],
) -> None:
    """Put the n best hypotheses of the utterances in the beam into `found`."""
    score = beam.total + beam.bonus
    if scorer is not None:
        score = score + beam.word + scorer.end_bonus_of(beam.node)
    for row in np.argsort(-score, kind="stable"):
        hypotheses = found[beam.item[row]]
        if len(hypotheses) < n:
            hypotheses.append((float(score[row]), trie.tokens(int(beam.node[row]))))
