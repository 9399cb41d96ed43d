"""A language model on integers, for beam searches over a lexicon."""

from collections.abc import Mapping

import numpy as np

from src.text_encoder.decoders.ngram import NgramModel, Words

START_STATE = 0


class WordTable:
    """What each word multiplies the probability of a hypothesis by: exp(alpha * log p + beta).

    States stand for the last words of a hypothesis, as many as the model distinguishes. The model
    is asked once for each word in a state.

    Args:
        model: word n-gram language model; None: all words are equally good.
        words: of the lexicon.
        alpha: weight of the language model.
        beta: added per word, with a language model.
        boosts: word -> what is added to it besides.

    Attributes:
        most: no word has a larger factor.
    """

    def __init__(
        self,
        model: NgramModel | None,
        words: list[str],
        alpha: float,
        beta: float,
        boosts: Mapping[str, float],
    ):
        self.model, self.words, self.alpha = model, words, alpha
        self.added = [boosts.get(word, 0.0) + (beta if model else 0.0) for word in words]
        highest = max(self.added) if model is None or alpha >= 0 else np.inf
        self.most = float(np.exp(min(highest, 500.0)))
        self.states: dict[Words, int] = {}
        self.contexts: list[Words] = []  # of the states
        self.ends: dict[int, float] = {}
        self.rows: dict[int, int] = {}  # state * number of words + word -> index of the following
        self.factors, self.following = np.zeros(1 << 10), np.zeros(1 << 10, np.int64)
        self.state_of(model.start if model else ())

    def __call__(self, states: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The factors [N] of words [N] in states [N], and the states [N] after them."""
        keys = (states * len(self.words) + words).tolist()
        rows = list(map(self.rows.get, keys))
        if None in rows:
            rows = list(map(self.row_of, keys))
        at = np.array(rows, dtype=np.int64)
        return self.factors[at], self.following[at]

    def row_of(self, key: int) -> int:
        """The row of a word in a state, for which the model may have to be asked."""
        row = self.rows.get(key)
        if row is not None:
            return row
        row = self.rows[key] = len(self.rows)
        if row == len(self.factors):
            self.factors = np.concatenate([self.factors, np.zeros(row)])
            self.following = np.concatenate([self.following, np.zeros(row, np.int64)])
        state, number = divmod(key, len(self.words))
        score = self.added[number]
        if self.model is not None:
            word, context = self.words[number], self.contexts[state]
            score += self.alpha * self.model.log_prob(word, context)
            self.following[row] = self.state_of(self.model.extend(context, word))
        self.factors[row] = np.exp(score)
        return row

    def state_of(self, context: Words) -> int:
        """The state of some last words, without those that make no difference to the model."""
        while context and self.model is not None and context not in self.model.ngrams:
            context = context[1:]
        state = self.states.setdefault(context, len(self.states))
        if state == len(self.contexts):
            self.contexts.append(context)
        return state

    def at_end(self, state: int) -> float:
        """What the end of the sentence adds to the score in a state."""
        if self.model is None:
            return 0.0
        if state not in self.ends:
            self.ends[state] = self.alpha * self.model.end_log_prob(self.contexts[state])
        return self.ends[state]
