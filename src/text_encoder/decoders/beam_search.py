"""CTC prefix beam search with a word n-gram language model."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from src.text_encoder.base import WORD_START, TextEncoder
from src.text_encoder.decoders.base import CTCDecoder
from src.text_encoder.decoders.beam import (
    Beam,
    Hypothesis,
    best_of_each,
    check_log_probs,
    choose_tokens,
    collect_hypotheses,
    extend,
    grow,
    needed_log_probs,
)
from src.text_encoder.decoders.beam_stream import BeamStream
from src.text_encoder.decoders.kenlm import read_language_model
from src.text_encoder.decoders.lexicon import Lexicon, read_lexicon, spelled, words_of_model
from src.text_encoder.decoders.lexicon_beam import search_words
from src.text_encoder.decoders.ngram import NgramModel
from src.text_encoder.decoders.prefix_trie import PrefixTrie
from src.text_encoder.decoders.word_scorer import WordScorer, promises_of
from src.text_encoder.decoders.word_table import WordTable
from src.utils.options import check_number, check_whole, refuse, shown

ALPHA, BETA = 0.5, 1.0
MOST = 200.0  # of what is added per word
MODEL = "model"  # as the lexicon: the words of the language model


class BeamSearchDecoder(CTCDecoder):
    """Finds the most probable token sequences, each summed over its alignments.

    With a language model the score is that of Deep Speech 2 (arXiv 1512.02595, section 3.8),
    log p_ctc + alpha * log p_lm + beta * (number of words); a word is scored once it is complete.
    Each hotword adds `hotword_boost`, also without a language model.

    With a lexicon, hypotheses consist of its words and of the hotwords alone, which is faster, too,
    and finds what flashlight-text's LexiconDecoder does. Spaces before, between and after words are
    then of no importance, and the best beginning in whole words is given if none are complete.

    Args:
        beam_size: number of (prefix, ending) pairs of an utterance kept after each frame, where
            the ending is a blank or the last token.
        token_threshold: minimum log-probability of a token in a frame to extend prefixes with
            it; speeds up large vocabularies. None: no threshold.
        language_model: an ARPA file, a binary file of KenLM, or a model.
        alpha: weight of the language model, from 0.
        beta: added per word, with a language model or a lexicon; from -200 to 200.
        hotwords: words that are more likely in the audio than elsewhere, e.g. names; a phrase
            stands for its words.
        hotword_boost: added for each of them, from -200 to 200; below 0 they are avoided.
        lexicon: words that are allowed: `model` for those of the language model, or a file with a
            word a line, each alone or followed by its spelling in tokens. None: any.

    Raises:
        ValueError: an argument is out of range, or the language model is damaged.
        FileNotFoundError: the language model or the lexicon does not exist.
    """

    def __init__(
        self,
        beam_size: int = 100,
        token_threshold: float | None = None,
        language_model: NgramModel | Path | str | None = None,
        alpha: float = ALPHA,
        beta: float = BETA,
        hotwords: Sequence[str] = (),
        hotword_boost: float = 5.0,
        lexicon: Path | str | None = None,
    ):
        check_whole("beam search, beam_size", beam_size)
        check_threshold("beam search, token_threshold", token_threshold)
        check_number("beam search, alpha", alpha, inclusive=True)
        # Their exponentials must be finite.
        check_number("beam search, beta", beta, -MOST, MOST, inclusive=True)
        check_number("beam search, hotword_boost", hotword_boost, -MOST, MOST, inclusive=True)
        if isinstance(hotwords, str) or not all(isinstance(word, str) for word in hotwords):
            raise ValueError(f"beam search, hotwords: {shown(hotwords)}; a list of words.")
        if isinstance(language_model, str | Path):
            language_model = read_language_model(Path(language_model))
        self.beam_size, self.token_threshold = beam_size, token_threshold
        self.threshold = -np.inf if token_threshold is None else token_threshold
        self.language_model, self.alpha, self.beta = language_model, alpha, beta
        self.hotwords, self.hotword_boost = list(hotwords), hotword_boost
        if lexicon == MODEL and language_model is None:
            raise ValueError(f"beam search, lexicon: {MODEL}; needs a language_model.")
        if lexicon not in (None, MODEL) and not Path(lexicon).is_file():
            raise FileNotFoundError(f"{lexicon}: no such lexicon.")
        self.lexicon = lexicon
        self.vocabulary: list[str] | None = None
        self.words: list[str] = []  # the hotwords, normalised
        self.spelled: tuple[Lexicon, WordTable] | None = None  # the lexicon and its scores

    def set_text_encoder(self, text_encoder: TextEncoder) -> None:
        """Set the text encoder, whose vocabulary the language model and the hotwords need.

        Raises:
            ValueError: a hotword has a character outside the vocabulary, the vocabulary has no
                spaces, so that it is unknown where words end, the tokens spell no words, like
                phonemes, or the lexicon is damaged.
        """
        self.vocabulary = text_encoder.vocabulary
        spaces = any(token.startswith((" ", WORD_START)) for token in self.vocabulary)
        needs = [key for key in ("language_model", "lexicon", "hotwords") if getattr(self, key)]
        if not spaces and needs:
            raise ValueError(f"beam search, {needs[0]}: only for a vocabulary with spaces.")
        if not text_encoder.keeps_words and needs:
            name = type(text_encoder).__name__
            raise ValueError(f"beam search, {needs[0]}: the tokens of {name} spell no words.")
        for phrase in self.hotwords:
            text_encoder.encode(phrase)  # raises
        self.words = " ".join(text_encoder.normalize(phrase) for phrase in self.hotwords).split()
        if self.lexicon is not None:
            self.spelled = self.spell(text_encoder)

    def spell(self, text_encoder: TextEncoder) -> tuple[Lexicon, WordTable]:
        """The lexicon in tokens of a text encoder, and the scores of its words.

        Raises:
            ValueError: the lexicon is empty or damaged.
        """
        if self.lexicon == MODEL and self.language_model:
            spellings = list(words_of_model(self.language_model, text_encoder))
        else:
            spellings = list(read_lexicon(Path(str(self.lexicon)), text_encoder))
        known = {word for word, _ in spellings}
        more = [word for word in dict.fromkeys(self.words) if word not in known]
        spellings += [(word, spelled(word, text_encoder)) for word in more]
        boosts = dict.fromkeys(self.words, self.hotword_boost)
        lexicon = Lexicon(spellings, text_encoder.vocabulary, promises_of(boosts))
        model = self.language_model
        return lexicon, WordTable(model, lexicon.words, self.alpha, self.beta, boosts)

    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[int]]:
        """Token ids of the best hypothesis of each utterance, without blanks.

        Args:
            log_probs: [B, T, V], natural logarithms; token 0 is the blank.
            log_probs_length: [B], in frames; later frames are ignored.

        Raises:
            ValueError: a length exceeds T, or the text encoder is needed and was not set.
        """
        n_best = self.n_best(log_probs, log_probs_length, 1)
        return [hypotheses[0][1] if hypotheses else [] for hypotheses in n_best]

    def n_best(self, log_probs: Tensor, log_probs_length: Tensor, n: int) -> list[list[Hypothesis]]:
        """Up to n hypotheses of each utterance as (score, token ids), the best first.

        Args:
            log_probs: [B, T, V], natural logarithms; token 0 is the blank.
            log_probs_length: [B], in frames; later frames are ignored.
            n: maximum number of hypotheses; the beam may hold fewer.

        Raises:
            ValueError: a length exceeds T, a log-probability is NaN, or the text encoder is needed
                and was not set.
        """
        lengths = log_probs_length.cpu().numpy()
        size, num_frames, vocab_size = log_probs.shape
        if len(lengths) and lengths.max() > num_frames:
            raise ValueError(f"log_probs_length: {lengths.max()}; at most {num_frames} frames.")
        check_log_probs(log_probs, lengths)
        if self.lexicon is not None:
            if self.spelled is None:
                raise ValueError("beam search: a lexicon needs set_text_encoder() first.")
            values = log_probs.detach().cpu().numpy()
            return search_words(values, lengths, *self.spelled, self.beam_size, self.threshold, n)
        frames = log_probs.detach().cpu().double().numpy()
        trie = PrefixTrie(size, vocab_size)
        scorer = self.build_scorer(trie)
        beam = Beam.start(size)
        hypotheses: list[list[Hypothesis]] = [[] for _ in range(size)]
        for t in range(lengths.max(initial=0) + 1):
            ended = lengths[beam.item] == t
            if ended.any():
                collect_hypotheses(beam[ended], trie, scorer, n, hypotheses)
                beam = beam[~ended]
            if len(beam.item):
                beam = self.advance(beam, frames[:, t], trie, scorer)
        return hypotheses

    def search(
        self, state: Mapping[str, Tensor] | None = None, words: Sequence[str] = ()
    ) -> BeamStream:
        """The search in a new stream, or one that goes on with its `state` and committed words.

        Raises:
            ValueError: there is a lexicon.
        """
        if self.lexicon is not None:
            raise ValueError(f"beam search, lexicon: {shown(self.lexicon)}; null in a stream.")
        return BeamStream(self, state, words)

    def build_scorer(self, trie: PrefixTrie) -> WordScorer | None:
        """The scorer of words, or None without a language model and hotwords.

        Raises:
            ValueError: the text encoder was not set.
        """
        if self.language_model is None and not self.hotwords:
            return None
        if self.vocabulary is None:
            raise ValueError("beam search: a language model needs set_text_encoder() first.")
        return WordScorer(
            self.language_model,
            self.vocabulary,
            trie,
            self.alpha,
            self.beta,
            self.words,
            self.hotword_boost,
        )

    def advance(
        self, beam: Beam, frame: np.ndarray, trie: PrefixTrie, scorer: WordScorer | None
    ) -> Beam:
        """The beam after one more frame, whose log-probabilities are `frame` [B, V]."""
        needed = needed_log_probs(beam, frame, self.beam_size)
        tokens, columns, tried = choose_tokens(frame, np.maximum(needed, self.threshold))
        scores = extend(beam, frame, columns, tried, self.threshold)
        ranked = scores
        if scorer is not None:
            ranked = scores + (beam.bonus + beam.promise)[:, None]
            ends_word = np.flatnonzero(scorer.starts_word[tokens])
            ranked[:, ends_word] += (beam.word - beam.promise)[:, None]
        chosen = best_of_each(ranked, beam.item, self.beam_size)
        return grow(beam, scores, chosen, tokens, trie, scorer)


def check_threshold(key: str, value: float | None) -> None:
    """Raise unless a value is a log-probability, or None.

    Args:
        key: what the message names.
        value: the smallest log-probability of tokens that are tried.

    Raises:
        ValueError: it isn't.
    """
    check_number(key, value, -math.inf, optional=True)
    if value is not None and value > 0:
        refuse(key, value, "a log-probability, which is at most 0", optional=True)
