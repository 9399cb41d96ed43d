"""Estimation of n-gram language models from texts."""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable

from src.text_encoder.decoders.ngram import END, LOG_ZERO, START, UNKNOWN, NgramModel, Words
from src.utils.options import check_whole

logger = logging.getLogger(__name__)

Counts = Counter[Words]
# Of n-grams that were seen once, twice, and three times or more.
Discounts = tuple[float, float, float]
FALLBACK: Discounts = (0.5, 1.0, 1.5)


def train_ngram(sentences: Iterable[str], order: int) -> NgramModel:
    """Train an n-gram model with interpolated modified Kneser-Ney smoothing.

    p(w | h) = (a(h w) - D(a(h w))) / sum of a(h v) over all words v + g(h) p(w | h'), where h' is
    h without its first word, and g(h) is what the discounts D took off (Chen and Goodman, "An
    Empirical Study of Smoothing Techniques for Language Modeling", 1998, section 4.1.6). The
    adjusted count a is the count for n-grams of the highest order and for those that begin with
    <s>, and the number of different words before it for others. Unigrams are interpolated with the
    uniform distribution over all words, </s> and <unk>. All is as in lmplz of KenLM (Heafield et
    al., "Scalable Modified Kneser-Ney Language Model Estimation", 2013).

    Args:
        sentences: normalised, words separated by spaces.
        order: length of the longest n-grams in words.

    Raises:
        ValueError: there are no sentences, or the order is not a whole number above 0.
    """
    check_whole("language model, order", order)
    counts = count_ngrams(sentences, order)
    if not counts[0]:
        raise ValueError("language model: there are no sentences to train on.")
    adjusted = [adjust(*pair) for pair in zip(counts, counts[1:], strict=False)] + [counts[-1]]
    last = last_ngram(counts)
    probability: dict[Words, float] = {}
    backoff: dict[Words, float] = {}
    uniform = 1 / (len(counts[0]) + 1)
    for n, own in enumerate(adjusted, start=1):
        statistics = dict(own)
        if n < order and last[-n:] in own:
            # lmplz takes the last n-gram, in its order, into its statistics unadjusted.
            statistics[last[-n:]] = counts[n - 1][last[-n:]]
        discounts = discounts_of(statistics.values(), n)
        totals, weights = masses(own, discounts)
        backoff |= weights
        for words, count in own.items():
            context = words[:-1]
            lower = probability[words[1:]] if n > 1 else uniform
            share = (count - discounts[min(count, 3) - 1]) / totals[context]
            probability[words] = share + weights[context] * lower
    probability[(UNKNOWN,)] = backoff.pop(()) * uniform
    probability[(START,)] = 1.0  # never asked for
    return NgramModel({w: (log10(p), log10(backoff.get(w, 1.0))) for w, p in probability.items()})


def log10(value: float) -> float:
    """Logarithm of a probability or weight as in ARPA files; discounts can make it 0."""
    return math.log10(value) if value > 0 else LOG_ZERO


def count_ngrams(sentences: Iterable[str], order: int) -> list[Counts]:
    """Counts of the n-grams of 1, 2, ..., `order` words, without the unigram <s>."""
    counts: list[Counts] = [Counter() for _ in range(order)]
    for sentence in sentences:
        words = (START, *sentence.split(), END)
        for n, own in enumerate(counts, start=1):
            own.update(words[i : i + n] for i in range(n == 1, len(words) - n + 1))
    return counts


def adjust(counts: Counts, longer: Counts) -> Counts:
    """The adjusted counts of n-grams that are not of the highest order.

    Args:
        counts: of the n-grams.
        longer: counts of the n-grams with one word more.
    """
    adjusted = Counter(words[1:] for words in longer)
    adjusted.update({words: count for words, count in counts.items() if words[0] == START})
    return adjusted


def last_ngram(counts: list[Counts]) -> Words:
    """The last n-gram of the highest order in the order of lmplz.

    It sorts by the last word, then by the word before it, and so on; words by their first
    appearance, after <s> and </s>.
    """
    numbers = {word: i for i, (word,) in enumerate(counts[0])} | {START: -2, END: -1}
    # In the highest order, sentences begin with as many <s> as are missing.
    candidates = [words for own in counts for words in own if len(words) == len(counts)]
    candidates += [words for own in counts[:-1] for words in own if words[0] == START]
    padding = [numbers[START]] * len(counts)

    def key(words: Words) -> list[int]:
        return ([numbers[word] for word in reversed(words)] + padding)[: len(counts)]

    return max(candidates, key=key)


def discounts_of(counts: Iterable[int], order: int) -> Discounts:
    """The discounts of the n-grams of one order, from their adjusted counts (equation 26).

    Where a small text does not give them they are 0.5, 1 and 1.5, as with lmplz
    --discount_fallback.
    """
    seen = Counter(counts)
    ones, twos = seen[1], seen[2]
    if all(seen[count] for count in (1, 2, 3)):
        y = ones / (ones + 2 * twos)
        d1, d2, d3 = (j - (j + 1) * y * seen[j + 1] / seen[j] for j in (1, 2, 3))
        if all(0 <= d <= j for j, d in enumerate((d1, d2, d3), start=1)):
            return d1, d2, d3
    logger.warning("%d-grams: too few for their own discounts; 0.5, 1 and 1.5 are used.", order)
    return FALLBACK


def masses(counts: Counts, discounts: Discounts) -> tuple[dict[Words, int], dict[Words, float]]:
    """For each context, the sum of its adjusted counts and the weight of the lower order.

    Args:
        counts: adjusted, of the n-grams of one order.
        discounts: of that order.
    """
    totals: dict[Words, int] = defaultdict(int)
    taken: dict[Words, float] = defaultdict(float)
    for words, count in counts.items():
        totals[words[:-1]] += count
        taken[words[:-1]] += discounts[min(count, 3) - 1]
    return totals, {context: taken[context] / total for context, total in totals.items()}
