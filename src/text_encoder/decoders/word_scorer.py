"""A language model's and a word count's part in the score of a beam search."""

import math
from dataclasses import dataclass
from pathlib import Path

from src.text_encoder.decoders.ngram import NgramModel


@dataclass(frozen=True)
class WordState:
    """A prefix as words: those that the model looks back at, and the letters of the next."""

    context: tuple[str, ...]
    letters: str
    bonus: float  # that its last word earns when it ends


class WordScorer:
    """Each finished word earns alpha * log p(word | words before) + beta.

    Deep Speech 2's score (arXiv 1512.02595, section 3.8), for characters as tokens.

    Args:
        text_encoder: its vocabulary has a space.
        language_model: an ARPA file, plain or gzipped; None: words are only counted.
        alpha: weight of the language model.
        beta: of each word.

    Raises:
        ValueError: the tokens aren't characters.
    """

    def __init__(
        self,
        text_encoder,
        language_model: str | None = None,
        alpha: float = 0.5,
        beta: float = 0.0,
    ):
        if " " not in text_encoder.vocabulary:
            raise ValueError("decoders: a language model of words needs characters as tokens.")
        self.vocabulary = text_encoder.vocabulary
        self.space = self.vocabulary.index(" ")
        self.model = NgramModel.from_arpa(Path(language_model)) if language_model else None
        self.alpha, self.beta = alpha, beta
        self.known: dict[tuple[tuple[str, ...], str], float] = {}

    def start(self) -> WordState:
        """Before the first word."""
        return WordState(("<s>",), "", 0.0)

    def advance(self, state: WordState, token: int) -> WordState:
        """After one more character."""
        if token != self.space:
            letters = state.letters + self.vocabulary[token]
            return WordState(state.context, letters, self.score(state.context, letters))
        if not state.letters:
            return state
        keep = self.model.order - 1 if self.model else 0
        context = (*state.context, state.letters)
        return WordState(context[len(context) - keep :] if keep else (), "", 0.0)

    def word_bonus(self, state: WordState) -> float:
        """What the word under way earns if it ends here."""
        return state.bonus

    def score(self, context: tuple[str, ...], word: str) -> float:
        """What a word earns after others; computed once for each."""
        key = (context, word)
        if key not in self.known:
            log_p = self.model.log_prob(word, context) if self.model else 0.0
            self.known[key] = self.alpha * log_p + self.beta if math.isfinite(log_p) else log_p
        return self.known[key]
