"""Estimation of n-gram language models from texts."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

from src.text_encoder.decoders.ngram import (
    END,
    LOG_ZERO,
    START,
    UNKNOWN,
    NgramModel,
    Words,
)
from src.utils.options import check_whole

Followers = dict[Words, Counter[str]]  # context -> counts of the words that follow it


def train_ngram(sentences: Iterable[str], order: int) -> NgramModel:
    """Train an n-gram model with interpolated Witten-Bell smoothing (Witten and Bell, 1991).

    p(w | h) = (c(h w) + t(h) p(w | h')) / (c(h) + t(h)), where c is a count, t(h) the number of
    different words observed after h, and h' is h without its first word. Unigrams are
    interpolated with the uniform distribution over all words, </s> and <unk>.

    Args:
        sentences: normalised, words separated by spaces.
        order: length of the longest n-grams in words.

    Raises:
        ValueError: there are no sentences, or the order is not a whole number above 0.
    """
    check_whole("language model, order", order)
    followers = count_followers(sentences, order)
    if not followers:
        raise ValueError("language model: there are no sentences to train on.")
    uniform = 1 / (len(followers[()]) + 1)
    probability: dict[Words, float] = {}
    for context in sorted(followers, key=len):
        seen = followers[context]
        total, types = seen.total(), len(seen)
        for word in [*seen, UNKNOWN] if not context else seen:
            lower = probability[(*context[1:], word)] if context else uniform
            probability[(*context, word)] = (seen[word] + types * lower) / (total + types)
    return to_model(probability, followers)


def count_followers(sentences: Iterable[str], order: int) -> Followers:
    """Counts of the words, and of </s>, that follow each context of up to order - 1 words."""
    followers: Followers = defaultdict(Counter)
    for sentence in sentences:
        words = [START, *sentence.split(), END]
        for i in range(1, len(words)):
            for start in range(max(0, i + 1 - order), i + 1):
                followers[tuple(words[start:i])][words[i]] += 1
    return followers


def to_model(probability: dict[Words, float], followers: Followers) -> NgramModel:
    """A model of log-probabilities with the back-off weights t(h) / (c(h) + t(h))."""
    ngrams = {words: (math.log10(p), 0.0) for words, p in probability.items()}
    ngrams[(START,)] = (LOG_ZERO, 0.0)
    for context, seen in followers.items():
        if context:
            weight = len(seen) / (seen.total() + len(seen))
            ngrams[context] = (ngrams[context][0], math.log10(weight))
    return NgramModel(ngrams)
