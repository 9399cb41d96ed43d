"""What words add to the score of a prefix in a beam search."""

from dataclasses import dataclass

import numpy as np

from src.text_encoder.base import WORD_START
from src.text_encoder.decoders.ngram import NgramModel
from src.text_encoder.decoders.prefix_trie import PrefixTrie


@dataclass(frozen=True)
class WordState:
    """A prefix as words.

    Attributes:
        context: the words that ended, as far back as the language model looks.
        letters: of the word under way.
        bonus: what that word earns if it ends here.
    """

    context: tuple[str, ...]
    letters: str
    bonus: float


class WordScorer:
    """Each word that ends earns alpha * log p(word | words before) + beta.

    Args:
        model: of words.
        vocabulary: the tokens by id; one that starts with a space, or the sign for it in
            subwords, ends the word under way.
        trie: of the prefixes.
        alpha: weight of the language model.
        beta: added for each word.

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
        self.states = [start] * trie.n_roots  # by node of the trie

    def bonus_of(self, nodes: np.ndarray) -> np.ndarray:
        """What the word under way earns if it ends here; nodes [N] -> [N]."""
        while len(self.states) < len(self.trie):
            parent, token = self.trie.origin(len(self.states))
            self.states.append(self.advance(self.states[parent], self.texts[token]))
        return np.array([self.states[node].bonus for node in nodes])

    def advance(self, state: WordState, text: str) -> WordState:
        """The state after the text of one more token."""
        context, letters = state.context, state.letters + text
        if text.startswith(" "):
            context, letters = self.after_word(state), text[1:]
        bonus = 0.0
        if letters:
            bonus = self.alpha * self.model.log_prob(letters, context) + self.beta
        return WordState(context, letters, bonus)

    def after_word(self, state: WordState) -> tuple[str, ...]:
        """The words that the model sees after the word under way, if there is one."""
        return self.model.extend(state.context, state.letters) if state.letters else state.context

    def end_bonus_of(self, nodes: np.ndarray) -> np.ndarray:
        """What the end of the sentence after the last word earns; nodes [N] -> [N]."""
        contexts = [self.after_word(self.states[node]) for node in nodes]
        return np.array([self.alpha * self.model.end_log_prob(context) for context in contexts])
