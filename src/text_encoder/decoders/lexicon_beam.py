"""CTC prefix beam search over the words of a lexicon, vectorised over all utterances.

The search is that of flashlight-text's LexiconDecoder (Kahn et al., "Flashlight: Enabling
Innovation in Tools for Machine Learning", arXiv 2201.12465): a hypothesis is its complete words and
a node of the lexicon's trie, and words are scored when they are complete. Spaces before, between
and after words are merged, and the end of an utterance completes a word as a space does.

Probabilities are not logarithms, but relative to the best hypothesis of the utterance, so that sums
are cheap. Hypotheses stay in their slots of arrays until they are dropped, so that a frame in which
all is as before, as most frames are, needs only few operations.

Shapes: B utterances, R slots of each, N = B * R, C candidates in a frame.
"""

import numpy as np

from src.text_encoder.decoders.base import BLANK
from src.text_encoder.decoders.beam import Hypothesis
from src.text_encoder.decoders.lexicon import NO_WORD, ROOT, Lexicon, ranges
from src.text_encoder.decoders.selection import chosen_of, lowest_of, raise_lowest
from src.text_encoder.decoders.word_table import START_STATE, WordTable

NONE = -1
ROUNDING = 1 + 1e-9  # more than that of any product
MIX = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(29)


class LexiconBeam:
    """The hypotheses of a batch of utterances; utterances that have ended are the last ones.

    Args:
        lexicon: of the words.
        table: scores of the words.
        batch: B.
        vocab_size: V.
        size: number of (hypothesis, ending) pairs of an utterance kept after each frame, where the
            ending is a blank or a token; also R.
        threshold: minimum log-probability of a token to extend a hypothesis.

    Attributes:
        blank, token: [N], probability of all alignments that end in a blank, and in a token.
        node: of the lexicon, [N].
        last: the last token, [N]; the space at the root, if there is one.
        at: position of that token in a frame [B, V], [N].
        loose: whether the last token is the space, which may also follow itself after a blank, [N].
        state: of the language model, [N].
        arc: by which the hypothesis was reached, [N].
        gain: what it multiplied the probability by, [N].
        parent: slot of the hypothesis without its last arc, [N]; -1: it isn't there.
        key, parent_key: numbers that identify the hypothesis and its parent, [N].
        step: index of the hypothesis's last arc in all that were ever taken, [N].
        scale: logarithm of what 1 stands for, [B].
    """

    def __init__(
        self,
        lexicon: Lexicon,
        table: WordTable,
        batch: int,
        vocab_size: int,
        size: int,
        threshold: float,
    ):
        self.lexicon, self.words = lexicon, table
        self.size, self.vocab_size = size, vocab_size
        self.least = np.exp(threshold)
        self.most = table.most * lexicon.gain.max() * ROUNDING
        slots = batch * size
        start = np.arange(batch) * size
        self.blank, self.token, self.gain = np.zeros(slots), np.zeros(slots), np.ones(slots)
        self.node, self.last, self.arc, self.state = (np.zeros(slots, np.int64) for _ in range(4))
        self.at = np.zeros(slots, np.int64)
        self.loose = np.zeros(slots, np.bool_)
        self.parent, self.step = np.full(slots, NONE), np.full(slots, NONE)
        self.key, self.parent_key = np.zeros(slots, np.uint64), np.zeros(slots, np.uint64)
        self.blank[start], self.state[start] = 1.0, START_STATE
        self.key[start] = mixed(np.arange(batch).astype(np.uint64), np.full(batch, NONE))
        if lexicon.space is not None:
            self.last[start], self.loose[start] = lexicon.space, True
            self.at[start] = np.arange(batch) * vocab_size + lexicon.space
        self.scale = np.zeros(batch)
        self.degree = int(lexicon.degree.max())
        self.taken = np.zeros(slots * self.degree, np.bool_)
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []  # earlier step and arc, in parts
        self.num_steps = 0

    def advance(self, frame: np.ndarray) -> None:
        """Go on by one frame [B', V] of log-probabilities, of the first B' utterances."""
        count, size = len(frame), self.size
        slots = count * size
        blank, token = self.blank[:slots], self.token[:slots]
        total = blank + token
        highest = np.maximum.reduce(total.reshape(count, size), axis=1)
        highest[highest == 0] = 1.0
        self.scale[:count] += np.log(highest)
        probs = np.exp(frame)
        extending = np.where(probs >= self.least, probs, 0.0) if self.least else probs.copy()
        extending[:, BLANK] = 0.0
        probs /= highest[:, None]
        extending /= highest[:, None]

        # The hypotheses as they are, in two ways, and what comes to them from their parents.
        stays = np.empty((count, 2 * size))
        np.multiply(total.reshape(count, size), probs[:, :1], out=stays[:, :size])
        lasting = np.where(self.loose[:slots], total, token) * probs.ravel()[self.at[:slots]]
        child = (self.parent[:slots] >= 0).nonzero()[0]
        parent = self.parent[child]
        before = np.where(self.last[child] == self.last[parent], blank[parent], total[parent])
        lasting[child] += before * extending.ravel()[self.at[child]] * self.gain[child]
        stays[:, size:] = lasting.reshape(count, size)
        best, lowest = lowest_of(stays, size)

        # New hypotheses that are better than the worst of these.
        taken = parent * self.degree + self.lexicon.place[self.arc[child]]
        self.taken[taken] = True
        found = self.candidates(total, extending, lowest)
        self.taken[taken] = False
        if len(found[0]):
            raise_lowest(lowest, best, found[0] // size, found[2])
        chosen, kept = chosen_of(stays, found[0] // size, found[2], lowest, size)
        found = tuple(values[kept] for values in found)
        stays *= chosen
        self.blank[:slots] = stays[:, :size].ravel()
        self.token[:slots] = stays[:, size:].ravel()
        alive = (chosen[:, :size] | chosen[:, size:]).ravel()
        orphans = child[~alive[parent]]
        self.parent[orphans] = NONE
        self.parent[:slots][~alive] = NONE
        if len(found[0]):
            self.add(alive, *found)

    def candidates(
        self, total: np.ndarray, extending: np.ndarray, lowest: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Extensions whose probability is above the lowest that is needed.

        Args:
            total: probability of the hypotheses, [N].
            extending: probabilities of the tokens that may extend them, [B, V].
            lowest: [B].

        Returns:
            The slots, arcs, probabilities, gains and following states of the extensions, each [C];
            of an utterance together.
        """
        lexicon, size, most = self.lexicon, self.size, self.most
        by_item = total.reshape(len(lowest), size)
        highest = np.maximum.reduce(by_item, axis=1)
        best = np.maximum.reduce(extending, axis=1) * most
        rows = (by_item * best[:, None] > lowest[:, None]).ravel().nonzero()[0]
        if not len(rows):
            nothing = np.zeros(0, np.int64)
            return nothing, nothing, np.zeros(0), np.zeros(0), nothing
        table_row = lexicon.row[self.node[rows]]
        few, many = rows[table_row < 0], rows[table_row >= 0]
        nodes = self.node[few]
        index, arcs = ranges(lexicon.first[nodes], lexicon.degree[nodes])
        sources = few[index]
        if len(many):
            items, tokens = (extending * (highest * most)[:, None] > lowest[:, None]).nonzero()
            limits = np.searchsorted(items, np.arange(len(lowest) + 1))
            item = many // size
            index, pairs = ranges(limits[item], limits[item + 1] - limits[item])
            source, row, tried = many[index], table_row[table_row >= 0][index], tokens[pairs]
            first = lexicon.table[row, tried]
            index, more = ranges(first, lexicon.table[row, tried + 1] - first)
            sources, arcs = np.concatenate([sources, source[index]]), np.concatenate([arcs, more])
        item, token = sources // size, lexicon.token[arcs]
        before = np.where(token == self.last[sources], self.blank[sources], total[sources])
        gain = lexicon.gain[arcs]
        found = before * extending.ravel()[item * self.vocab_size + token] * gain
        ends = lexicon.word[arcs] != NO_WORD
        bound = found * np.where(ends, self.words.most * ROUNDING, 1.0)
        taken = self.taken[sources * self.degree + lexicon.place[arcs]]
        kept = ((bound > lowest[item]) & ~taken).nonzero()[0]
        sources, arcs, found, gain, ends = (x[kept] for x in (sources, arcs, found, gain, ends))
        states = self.state[sources]
        ends = ends.nonzero()[0]
        if len(ends):
            factor, states[ends] = self.words(states[ends], lexicon.word[arcs[ends]])
            gain[ends] *= factor
            found[ends] *= factor
            kept = (found > lowest[sources // size]).nonzero()[0]
            sources, arcs, found, gain, states = (
                x[kept] for x in (sources, arcs, found, gain, states)
            )
        if len(many):
            order = sources.argsort(kind="stable")
            sources, arcs, found, gain, states = (
                x[order] for x in (sources, arcs, found, gain, states)
            )
        return sources, arcs, found, gain, states

    def add(
        self,
        alive: np.ndarray,
        source: np.ndarray,
        arc: np.ndarray,
        found: np.ndarray,
        gain: np.ndarray,
        state: np.ndarray,
    ) -> None:
        """Put new hypotheses into free slots, and link them with their parents and children.

        Args:
            alive: whether a slot is taken, [N].
            source, arc, found, gain, state: of the new ones, [C], as `candidates` gives them.
        """
        lexicon = self.lexicon
        item = source // self.size
        counts = np.bincount(item, minlength=len(alive) // self.size)
        free = (~alive).nonzero()[0]
        begin = np.searchsorted(free, np.arange(len(counts)) * self.size)
        slot = free[begin[item] + np.arange(len(item)) - (counts.cumsum() - counts)[item]]
        parent_key, step = self.key[source], self.step[source]
        key = mixed(parent_key, arc)
        # Hypotheses may have outlived a parent that is back now.
        orphans = (alive & (self.parent[: len(alive)] < 0)).nonzero()[0]
        order = key.argsort()
        ordered = key[order]
        at = np.minimum(ordered.searchsorted(self.parent_key[orphans]), len(key) - 1)
        again = ordered[at] == self.parent_key[orphans]
        self.parent[orphans[again]] = slot[order[at[again]]]

        self.parent[slot] = np.where(alive[source], source, NONE)
        self.key[slot], self.parent_key[slot] = key, parent_key
        self.blank[slot], self.token[slot], self.gain[slot] = 0.0, found, gain
        self.node[slot], self.arc[slot], self.state[slot] = lexicon.target[arc], arc, state
        token = self.last[slot] = lexicon.token[arc]
        self.at[slot] = item * self.vocab_size + token
        self.loose[slot] = token == (NONE if lexicon.space is None else lexicon.space)
        self.step[slot] = self.num_steps + np.arange(len(arc))
        self.steps.append((step, arc))
        self.num_steps += len(arc)

    def ending(self, item: int) -> list[tuple[float, int, int]]:
        """The hypotheses of an utterance that ends here, the best first.

        If none of them ends in a complete word, the incomplete ones are left out of all.

        Args:
            item: index of the utterance.

        Returns:
            For each: its score, its last step, and an arc after that or `NONE`.
        """
        begin = item * self.size
        slots = begin + np.flatnonzero((self.blank + self.token)[begin : begin + self.size])
        total = self.blank[slots] + self.token[slots]
        index, arcs = self.lexicon.completing(self.node[slots])
        factor, states = self.words(self.state[slots[index]], self.lexicon.word[arcs])
        done = self.node[slots] == ROOT
        if not done.any() and not len(index):
            done[:] = True
        ends: dict[int, tuple[float, int, int, int]] = {}
        keys = [*self.key[slots[done]].tolist(), *mixed(self.key[slots[index]], arcs).tolist()]
        probs = [
            *total[done].tolist(),
            *(total[index] * factor * self.lexicon.gain[arcs]).tolist(),
        ]
        last = [*self.step[slots[done]].tolist(), *self.step[slots[index]].tolist()]
        more = [*[NONE] * int(done.sum()), *arcs.tolist()]
        after = [*self.state[slots[done]].tolist(), *states.tolist()]
        for key, prob, *where in zip(keys, probs, last, more, after, strict=True):
            other = ends.get(key)
            ends[key] = (prob + other[0], *other[1:]) if other else (prob, *where)
        scored = [
            (float(np.log(prob) + self.scale[item]) + self.words.at_end(state), step, arc)
            for prob, step, arc, state in ends.values()
            if prob > 0
        ]
        return sorted(scored, key=lambda end: -end[0])


def mixed(keys: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """Keys of hypotheses [N] that extend those with some keys [N] by some arcs [N].

    They are 64 bits of a hash, so that two hypotheses in a beam practically never have the same.
    """
    mixed = (keys ^ (arcs + 2).astype(np.uint64) * MIX) * MIX
    mixed ^= mixed >> SHIFT
    return mixed * MIX ^ mixed >> SHIFT


def search_words(
    frames: np.ndarray,
    lengths: np.ndarray,
    lexicon: Lexicon,
    table: WordTable,
    size: int,
    threshold: float,
    n: int,
) -> list[list[Hypothesis]]:
    """Up to n hypotheses of each utterance as (score, token ids), the best first.

    Args:
        frames: [B, T, V], natural logarithms; token 0 is the blank.
        lengths: [B], in frames.
        lexicon: of the words.
        table: scores of the words.
        size: of the beam.
        threshold: minimum log-probability of a token to extend a hypothesis.
        n: maximum number of hypotheses of an utterance.
    """
    order = np.argsort(-lengths, kind="stable")
    beam = LexiconBeam(lexicon, table, len(lengths), frames.shape[2], size, threshold)
    ends: list[list[tuple[float, int, int]]] = [[] for _ in lengths]
    remaining = lengths[order]
    for t in range(lengths.max(initial=0) + 1):
        for i in np.flatnonzero(remaining == t):
            ends[order[i]] = beam.ending(int(i))[:n]
        going = int(np.count_nonzero(remaining > t))
        if going:
            with np.errstate(over="ignore"):  # of bounds
                beam.advance(frames[order[:going], t].astype(np.float64))
    steps = [np.concatenate(part) for part in zip(*beam.steps, strict=True)]
    hypotheses = []
    for own, length in zip(ends, lengths.tolist(), strict=True):
        scores: dict[tuple[int, ...], float] = {}
        for score, step, arc in own:
            scores.setdefault(tokens_of(lexicon, steps, step, arc, length), score)
        hypotheses.append([(score, list(tokens)) for tokens, score in scores.items()])
    return hypotheses


def tokens_of(
    lexicon: Lexicon, steps: list[np.ndarray], step: int, arc: int, frames: int
) -> tuple[int, ...]:
    """Token ids of the complete words of a hypothesis.

    Args:
        lexicon: of the words.
        steps: earlier step and arc of all steps.
        step: the last one.
        arc: after that, or `NONE`.
        frames: of the utterance; the space after the last word is left out if there are too few.
    """
    arcs = [] if arc == NONE else [arc]
    while step != NONE:
        arcs.append(int(steps[1][step]))
        step = int(steps[0][step])
    arcs.reverse()
    while arcs and lexicon.word[arcs[-1]] == NO_WORD:
        arcs.pop()
    tokens = lexicon.token[arcs].tolist()
    repeats = sum(a == b for a, b in zip(tokens, tokens[1:], strict=False))
    if tokens and tokens[-1] == lexicon.space and len(tokens) + repeats > frames:
        tokens.pop()
    return tuple(tokens)
