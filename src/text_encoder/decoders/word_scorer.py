"""Scores of words in a prefix beam search: a language model, and words to listen for."""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from src.text_encoder.base import WORD_START
from src.text_encoder.decoders.ngram import NgramModel
from src.text_encoder.decoders.prefix_trie import PrefixTrie


@dataclass(frozen=True)
class WordState:
    """A prefix, split into words.

    Attributes:
        context: the last complete words, as many as the language model conditions on.
        letters: of the incomplete last word.
        bonus: score of the last word if it is complete here.
        promise: what the last word adds to the rank of the prefix while it is incomplete.
    """

    context: tuple[str, ...]
    letters: str
    bonus: float
    promise: float


class WordScorer:
    """Scores each complete word with alpha * log p(word | previous words) + beta, and hotwords.

    A hotword adds `boost` to that. So that it isn't lost before it is complete, a prefix that ends
    in the first k of its n letters ranks as if its score were k / n * `boost` higher, as in
    pyctcdecode.

    Args:
        model: word n-gram language model; None: only hotwords are scored.
        vocabulary: tokens in the order of their ids. A token that starts with a space (or its
            subword symbol) completes the previous word.
        trie: of the prefixes.
        alpha: weight of the language model.
        beta: added per word.
        hotwords: words.
        boost: added per hotword.

    Attributes:
        starts_word: [V], whether a token starts with a space.
    """

    def __init__(
        self,
        model: NgramModel | None,
        vocabulary: list[str],
        trie: PrefixTrie,
        alpha: float,
        beta: float,
        hotwords: Iterable[str] = (),
        boost: float = 0.0,
    ):
        self.model, self.trie, self.alpha, self.beta = model, trie, alpha, beta
        self.boosts = dict.fromkeys(hotwords, boost)
        self.promises = promises_of(self.boosts)
        self.texts = [token.replace(WORD_START, " ") for token in vocabulary]
        self.starts_word = np.array([text.startswith(" ") for text in self.texts])
        self.start = model.start if model else ()
        self.known: dict[tuple[tuple[str, ...], str], WordState] = {}
        self.states = [WordState(self.start, "", 0.0, 0.0)] * trie.n_roots  # by trie node

    def set_root(self, words: Sequence[str]) -> None:
        """Let the empty prefix follow these words, of which the last one is not scored yet."""
        if not words:
            return
        context = self.start
        if self.model:
            for word in words[-self.model.order : -1]:
                context = self.model.extend(context, word)
        self.states[0] = self.state_of(context, words[-1])

    def on_trie(self, trie: PrefixTrie, nodes: np.ndarray) -> "WordScorer":
        """This scorer for another trie, each of whose nodes [N] has a number in the present one."""
        other = copy(self)
        other.trie, other.states = trie, [self.states[node] for node in nodes]
        other.known = {}
        return other

    def scores_of(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The `bonus` [N] and the `promise` [N] of each prefix; nodes [N]."""
        while len(self.states) < len(self.trie):
            parent, token = self.trie.origin(len(self.states))
            self.states.append(self.advance(self.states[parent], self.texts[token]))
        states = [self.states[node] for node in nodes.tolist()]
        return np.array([s.bonus for s in states]), np.array([s.promise for s in states])

    def advance(self, state: WordState, text: str) -> WordState:
        """The state of a prefix extended by a token with this text."""
        context, letters = state.context, state.letters + text
        if text.startswith(" "):
            context, letters = self.after_word(state), text[1:]
        return self.state_of(context, letters)

    def state_of(self, context: tuple[str, ...], letters: str) -> WordState:
        """The state of a prefix with this last word; many prefixes have the same."""
        state = self.known.get((context, letters))
        if state is None:
            bonus = self.boosts.get(letters, 0.0)
            if letters and self.model:
                bonus += self.alpha * self.model.log_prob(letters, context) + self.beta
            state = WordState(context, letters, bonus, self.promises.get(letters, 0.0))
            self.known[context, letters] = state
        return state

    def after_word(self, state: WordState) -> tuple[str, ...]:
        """The language model context once the last word, if there is one, is complete."""
        if not state.letters or not self.model:
            return state.context
        return self.model.extend(state.context, state.letters)

    def end_bonus_of(self, nodes: np.ndarray) -> np.ndarray:
        """Score [N] of the end of the sentence after each prefix; nodes [N]."""
        if not self.model:
            return np.zeros(len(nodes))
        contexts = [self.after_word(self.states[node]) for node in nodes]
        return np.array([self.alpha * self.model.end_log_prob(context) for context in contexts])


def promises_of(boosts: Mapping[str, float]) -> dict[str, float]:
    """What each beginning of a hotword adds to the rank of a prefix.

    Args:
        boosts: hotword -> what it adds once it is complete.
    """
    promises: dict[str, float] = {}
    for word, boost in boosts.items():
        for k in range(1, len(word) + 1):
            promise = boost * k / len(word)
            promises[word[:k]] = max(promise, promises.get(word[:k], promise))
    return promises
