"""N-gram language models from texts."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

from src.text_encoder.decoders.ngram import END, NEVER, START, UNKNOWN, NgramModel, Words

Followers = dict[Words, Counter[str]]  # context -> how often each word comes after it


def train_ngram(sentences: Iterable[str], order: int) -> NgramModel:
    """A model with interpolated Witten-Bell smoothing (Witten and Bell, 1991).

    p(w | h) = (c(h w) + t(h) p(w | h')) / (c(h) + t(h)), where c counts, t(h) is the number of
    different words seen after h, and h' is h without its first word. Below the single words is
    the uniform distribution over the words, the end of a sentence and one unknown word.

    Args:
        sentences: normalised, words separated by spaces.
        order: words of the longest n-gram.

    Raises:
        ValueError: no sentences, or an order below 1.
    """
    if order < 1:
        raise ValueError(f"language model: the order is {order}, wanted 1 or more.")
    followers = count_followers(sentences, order)
    if not followers:
        raise ValueError("language model: there are no sentences to learn from.")
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
    """How often each word, or the end, follows each context of up to order - 1 words."""
    followers: Followers = defaultdict(Counter)
    for sentence in sentences:
        words = [START, *sentence.split(), END]
        for i in range(1, len(words)):
            for start in range(max(0, i + 1 - order), i + 1):
                followers[tuple(words[start:i])][words[i]] += 1
    return followers


def to_model(probability: dict[Words, float], followers: Followers) -> NgramModel:
    """Logarithms, and the weights t(h) / (c(h) + t(h)) for words not seen after h."""
    ngrams = {words: (math.log10(p), 0.0) for words, p in probability.items()}
    ngrams[(START,)] = (NEVER, 0.0)
    for context, seen in followers.items():
        if context:
            weight = len(seen) / (seen.total() + len(seen))
            ngrams[context] = (ngrams[context][0], math.log10(weight))
    return NgramModel(ngrams)
