"""The beam of a CTC prefix beam search, vectorised over all utterances and prefixes.

The recursion over prefixes is that of Hannun et al., "First-Pass Large Vocabulary Continuous
Speech Recognition using Bi-Directional Recurrent DNNs" (arXiv 1408.2873), after Graves's thesis.

Shapes: N prefixes of all utterances together, C tokens considered in a frame.
"""

from dataclasses import dataclass, fields

import numpy as np
from torch import Tensor

from src.text_encoder.decoders.base import BLANK
from src.text_encoder.decoders.prefix_trie import PrefixTrie
from src.text_encoder.decoders.word_scorer import WordScorer

LOG_ZERO = -np.inf
ROUNDING = 1e-6  # more than the rounding of any score

Hypothesis = tuple[float, list[int]]  # score, token ids


@dataclass
class Beam:
    """The prefixes of all utterances, sorted by utterance; each array is [N].

    The alignments of a prefix end in a blank or in its last token. The two cases have separate
    scores, because they extend differently in the next frame. Scores are natural logarithms.
    """

    item: np.ndarray  # index of the utterance
    node: np.ndarray  # trie node of the prefix
    parent: np.ndarray  # trie node of the prefix without its last token; -1 for the empty prefix
    last: np.ndarray  # last token; the blank for the empty prefix
    blank: np.ndarray  # log-probability of all alignments that end in a blank
    token: np.ndarray  # log-probability of all alignments that end in the last token
    bonus: np.ndarray  # score of the complete words
    word: np.ndarray  # score of the last word if it is complete here
    promise: np.ndarray  # added to the rank while the last word is incomplete

    @classmethod
    def start(cls, size: int) -> "Beam":
        """One empty prefix for each utterance."""
        roots, zeros = np.arange(size), np.zeros(size)
        nothing = np.full(size, LOG_ZERO)
        no_parent, no_token = np.full(size, -1), np.full(size, BLANK)
        return cls(roots, roots, no_parent, no_token, zeros, nothing, zeros, zeros, zeros)

    def __getitem__(self, rows: np.ndarray) -> "Beam":
        """The prefixes of these rows."""
        return Beam(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def total(self) -> np.ndarray:
        """Log-probability [N] of each prefix."""
        return np.logaddexp(self.blank, self.token)


def check_log_probs(log_probs: Tensor, lengths: np.ndarray) -> None:
    """Raise if a log-probability is NaN, with which hypotheses can't be ranked.

    Args:
        log_probs: [B, T, V].
        lengths: [B], in frames; later frames may be anything.

    Raises:
        ValueError: one is NaN; names the utterance.
    """
    for item, length in enumerate(lengths.tolist()):
        if log_probs[item, :length].isnan().any():
            raise ValueError(f"beam search, log_probs: NaN in utterance {item} of the batch.")


def needed_log_probs(beam: Beam, frame: np.ndarray, size: int) -> np.ndarray:
    """The log-probability [B] below which no token of a frame can extend a prefix of the new beam.

    Each prefix may stay as it is, in two ways. Where these alone fill the beam, an extension must
    be at least as good as the worst of them.

    Args:
        beam: before the frame.
        frame: [B, V], log-probabilities.
        size: of the new beam, for each utterance.
    """
    needed = np.full(len(frame), LOG_ZERO)
    total, rank = beam.total, beam.bonus + beam.promise
    blank = total + frame[beam.item, BLANK] + rank
    same = beam.token + frame[beam.item, beam.last] + rank
    highest = total + np.maximum(rank, beam.bonus + beam.word)
    limits = np.flatnonzero(np.diff(beam.item, prepend=-1, append=-1))
    for i, j in zip(limits, limits[1:], strict=False):
        stays = np.concatenate([blank[i:j], same[i:j]])
        if len(stays) >= size:
            worst = np.partition(stays, len(stays) - size)[len(stays) - size]
            if worst > LOG_ZERO:
                needed[beam.item[i]] = worst - highest[i:j].max() - ROUNDING
    return needed


def choose_tokens(
    frame: np.ndarray, threshold: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The tokens considered in a frame.

    Args:
        frame: [B, V], log-probabilities.
        threshold: minimum log-probability of a token in each utterance, [B].

    Returns:
        The tokens [C], the blank first; the column [V] of each token, which is C for tokens that
        are not considered; and log-probabilities [B, C + 1], minus infinity in column C and for
        tokens that only other utterances consider.
    """
    impossible = np.full((len(frame), 1), LOG_ZERO)
    tries = frame >= threshold[:, None]
    tries[:, BLANK] = True
    tokens = np.flatnonzero(tries.any(axis=0))
    columns = np.full(frame.shape[1], len(tokens))
    columns[tokens] = np.arange(len(tokens))
    tried = np.where(tries[:, tokens], frame[:, tokens], LOG_ZERO)
    return tokens, columns, np.concatenate([tried, impossible], axis=1)


def extend(
    beam: Beam, frame: np.ndarray, columns: np.ndarray, tried: np.ndarray, threshold: float
) -> np.ndarray:
    """Log-probabilities of all continuations of each prefix in a frame.

    Args:
        beam: before the frame.
        frame: [B, V], log-probabilities.
        columns: [V], the column of each token, C for tokens not considered.
        tried: [B, C + 1], log-probabilities of the tokens considered.
        threshold: minimum log-probability of a token that extends a prefix.

    Returns:
        [N, C + 1]: column 0 is the unchanged prefix ending in a blank, column C the unchanged
        prefix ending in its last token, the columns between are the prefix and one more token.
    """
    total, column = beam.total, columns[beam.last]
    scores = total[:, None] + tried[beam.item]
    # Repeating the last token requires a blank in between; without one it is the same token.
    rows = np.arange(len(total))
    scores[rows, column] = beam.blank + tried[beam.item, column]
    lasting = frame[beam.item, beam.last]
    unchanged = beam.token + lasting
    # A prefix that is also an extension of another one in the beam is scored once, in its own row.
    child, parent = families(beam)
    before = np.where(beam.last[child] == beam.last[parent], beam.blank[parent], total[parent])
    extension = before + np.where(lasting[child] >= threshold, lasting[child], LOG_ZERO)
    unchanged[child] = np.logaddexp(unchanged[child], extension)
    scores[parent, column[child]] = LOG_ZERO
    scores[:, 0] = total + frame[beam.item, BLANK]
    scores[:, -1] = unchanged
    return scores


def families(beam: Beam) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the prefixes whose parents are in the beam as well, and the rows of the parents."""
    order = np.argsort(beam.node)
    position = np.searchsorted(beam.node, beam.parent, sorter=order)
    row = order[np.minimum(position, len(order) - 1)]
    child = np.flatnonzero(beam.node[row] == beam.parent)
    return child, row[child]


def best_of_each(scores: np.ndarray, item: np.ndarray, size: int) -> np.ndarray:
    """Mask [N, C + 1] of the best `size` scores of each utterance; scores [N, C + 1], item [N]."""
    limits = np.flatnonzero(np.diff(item, prepend=-1, append=-1))
    parts = [best(scores[i:j], size) for i, j in zip(limits, limits[1:], strict=False)]
    return np.concatenate(parts)


def best(scores: np.ndarray, size: int) -> np.ndarray:
    """Mask of the best `size` scores of an array [N, C + 1]; of equal scores, the first ones."""
    if scores.size <= size:
        return scores > LOG_ZERO
    stays, likely = scores[:, [0, -1]], scores
    if stays.size >= size:  # as good as the worst of them are few, which takes less time
        likely = scores[scores >= np.partition(stays, stays.size - size, axis=None)[-size]]
    lowest = np.partition(likely, likely.size - size, axis=None)[-size]
    chosen = scores > lowest
    if lowest > LOG_ZERO:
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
    """The new beam: the selected prefixes, unchanged or extended by a token.

    Args:
        beam: before the frame.
        scores: [N, C + 1], log-probabilities of all continuations.
        chosen: [N, C + 1], True for the selected continuations.
        tokens: [C], the tokens considered.
        trie: of the prefixes.
        scorer: of complete words, or None without a language model.
    """
    ending = np.where(chosen[:, [0, -1]], scores[:, [0, -1]], LOG_ZERO)
    stay = np.flatnonzero(chosen[:, 0] | chosen[:, -1])
    source, column = np.nonzero(chosen[:, 1:-1])
    last = tokens[column + 1]
    nodes = trie.extend(beam.node[source], last)
    kept = beam[stay]
    kept.blank, kept.token = ending[stay, 0], ending[stay, 1]
    longer = beam[source]
    longer.parent, longer.node, longer.last = longer.node, nodes, last
    longer.blank, longer.token = np.full(len(nodes), LOG_ZERO), scores[source, column + 1]
    if scorer is not None:
        longer.bonus = longer.bonus + np.where(scorer.starts_word[last], longer.word, 0.0)
        longer.word, longer.promise = scorer.scores_of(nodes)
    parts = zip(*([getattr(b, f.name) for f in fields(Beam)] for b in (kept, longer)), strict=True)
    both = Beam(*(np.concatenate(part) for part in parts))
    return both[np.argsort(both.item, kind="stable")]


def collect_hypotheses(
    beam: Beam,
    trie: PrefixTrie,
    scorer: WordScorer | None,
    n: int,
    hypotheses: list[list[Hypothesis]],
) -> None:
    """Append the n best hypotheses of each utterance in the beam to its list in `hypotheses`."""
    score = beam.total + beam.bonus
    if scorer is not None:
        score = score + beam.word + scorer.end_bonus_of(beam.node)
    for row in np.argsort(-score, kind="stable"):
        own = hypotheses[beam.item[row]]
        if len(own) < n:
            own.append((float(score[row]), trie.tokens(int(beam.node[row]))))
