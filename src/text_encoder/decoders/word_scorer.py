"""Word-level language model scores in a prefix beam search."""

from collections.abc import Sequence
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
    """

    context: tuple[str, ...]
    letters: str
    bonus: float


class WordScorer:
    """Scores each complete word with alpha * log p(word | previous words) + beta.

    Args:
        model: word n-gram language model.
        vocabulary: tokens in the order of their ids. A token that starts with a space (or its
            subword symbol) completes the previous word.
        trie: of the prefixes.
        alpha: weight of the language model.
        beta: added per word.

    Attributes:
        starts_word: [V], whether a token starts with a space.
    """

    def __init__(
        self,
        model: NgramModel,
        vocabulary: list[str],
        trie: PrefixTrie,
        alpha: float,
        beta: float,
    ):
        self.model, self.trie, self.alpha, self.beta = model, trie, alpha, beta
        self.texts = [token.replace(WORD_START, " ") for token in vocabulary]
        self.starts_word = np.array([text.startswith(" ") for text in self.texts])
        start = WordState(model.start, "", 0.0)
        self.states = [start] * trie.n_roots  # by trie node

    def set_root(self, words: Sequence[str]) -> None:
        """Let the empty prefix follow these words, of which the last one is not scored yet."""
        if not words:
            return
        context = self.model.start
        for word in words[-self.model.order : -1]:
            context = self.model.extend(context, word)
        self.states[0] = self.state_of(context, words[-1])

    def on_trie(self, trie: PrefixTrie, nodes: np.ndarray) -> "WordScorer":
        """This scorer for another trie, each of whose nodes [N] has a number in the present one."""
        other = copy(self)
        other.trie, other.states = trie, [self.states[node] for node in nodes]
        return other

    def bonus_of(self, nodes: np.ndarray) -> np.ndarray:
        """Score [N] of the last word of each prefix if it is complete there; nodes [N]."""
        while len(self.states) < len(self.trie):
            parent, token = self.trie.origin(len(self.states))
            self.states.append(self.advance(self.states[parent], self.texts[token]))
        return np.array([self.states[node].bonus for node in nodes])

    def advance(self, state: WordState, text: str) -> WordState:
        """The state of a prefix extended by a token with this text."""
        context, letters = state.context, state.letters + text
        if text.startswith(" "):
            context, letters = self.after_word(state), text[1:]
        return self.state_of(context, letters)

    def state_of(self, context: tuple[str, ...], letters: str) -> WordState:
        """The state of a prefix with this last word."""
        bonus = 0.0
        if letters:
            bonus = self.alpha * self.model.log_prob(letters, context) + self.beta
        return WordState(context, letters, bonus)

    def after_word(self, state: WordState) -> tuple[str, ...]:
        """The language model context once the last word, if there is one, is complete."""
        return self.model.extend(state.context, state.letters) if state.letters else state.context

    def end_bonus_of(self, nodes: np.ndarray) -> np.ndarray:
        """Score [N] of the end of the sentence after each prefix; nodes [N]."""
        contexts = [self.after_word(self.states[node]) for node in nodes]
        return np.array([self.alpha * self.model.end_log_prob(context) for context in contexts])
