"""Back-off n-gram language models of words, and the ARPA files that hold them."""

import gzip
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from src.utils.files import write_beside

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -99.0  # log10 of what can't be, as ARPA files write it

Words = tuple[str, ...]


class NgramModel:
    """Probabilities of words after others, with back-off (Katz, 1987).

    A word that the model doesn't know has the probability of <unk>; a model without <unk> gives
    it 10^-99.

    Args:
        ngrams: words -> (log10 probability, log10 back-off weight).

    Raises:
        ValueError: there are no n-grams.

    Attributes:
        order: words of the longest n-gram.
        start: the context at the start of a sentence.
    """

    def __init__(self, ngrams: dict[Words, tuple[float, float]]):
        if not ngrams:
            raise ValueError("language model: there are no n-grams.")
        self.ngrams = ngrams
        self.order = max(map(len, ngrams))
        self.start = self.extend((), START)

    @classmethod
    def from_arpa(cls, path: Path) -> "NgramModel":
        """Read an ARPA file, plain or gzipped (.gz).

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a line isn't an n-gram, or there are none; names file and line.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such language model.")
        with open_text(path, "rt") as file:
            ngrams = dict(read_ngrams(file, path))
        if not ngrams:
            raise ValueError(f"{path}: holds no n-grams; not an ARPA file?")
        return cls(ngrams)

    def write_arpa(self, path: Path) -> None:
        """Write an ARPA file, gzipped if its name ends in .gz."""
        orders = range(1, self.order + 1)
        by_order = {n: sorted(w for w in self.ngrams if len(w) == n) for n in orders}
        with write_beside(path) as beside, open_text(beside, "wt", path.suffix) as file:
            file.write("\\data\\\n")
            file.writelines(f"ngram {n}={len(by_order[n])}\n" for n in orders)
            for n in orders:
                file.write(f"\n\\{n}-grams:\n")
                file.writelines(self.to_line(words) for words in by_order[n])
            file.write("\n\\end\\\n")

    def to_line(self, words: Words) -> str:
        """An n-gram as a line of an ARPA file; the longest ones have no back-off weight."""
        log_p, backoff = self.ngrams[words]
        weight = "" if len(words) == self.order else f"\t{backoff:.7g}"
        return f"{log_p:.7g}\t{' '.join(words)}{weight}\n"

    def log_prob(self, word: str, context: Words) -> float:
        """Natural logarithm of p(word | context)."""
        if (word,) not in self.ngrams:
            word = UNKNOWN
        return math.log(10) * self.backed_off(word, context)

    def backed_off(self, word: str, context: Words) -> float:
        """log10 by the longest n-gram there is, with the weights on the way down to it."""
        weight = 0.0
        for start in range(len(context) + 1):
            found = self.ngrams.get((*context[start:], word))
            if found is not None:
                return weight + found[0]
            weight += self.ngrams.get(context[start:], (0.0, 0.0))[1]
        return NEVER

    def extend(self, context: Words, word: str) -> Words:
        """The context after one more word, no longer than the model looks back."""
        if self.order == 1:
            return ()
        known = word if (word,) in self.ngrams else UNKNOWN
        return (*context, known)[1 - self.order :]

    def end_log_prob(self, context: Words) -> float:
        """Natural logarithm of the probability that the sentence ends after a context."""
        return self.log_prob(END, context)

    def sentence_log_prob(self, words: Sequence[str]) -> float:
        """Natural logarithm of p(words and the end | start)."""
        context, total = self.start, 0.0
        for word in words:
            total += self.log_prob(word, context)
            context = self.extend(context, word)
        return total + self.end_log_prob(context)


def open_text(path: Path, mode: str, suffix: str | None = None) -> TextIO:
    """A text file, gzipped if its name, or the suffix given, says so."""
    opener = gzip.open if (suffix or path.suffix) == ".gz" else open
    return opener(path, mode, encoding="utf-8")  # type: ignore[operator, return-value]


def read_ngrams(file: TextIO, path: Path) -> Iterator[tuple[Words, tuple[float, float]]]:
    """The n-grams of an ARPA file; what stands before the first section is a header."""
    order = 0
    for number, line in enumerate(file, start=1):
        line = line.strip()
        if line.startswith("\\") and line.endswith("-grams:"):
            order = int(line[1 : -len("-grams:")])
        elif line == "\\end\\":
            return
        elif order and line:
            yield parse(line, order, f"{path}, line {number}")


def parse(line: str, order: int, place: str) -> tuple[Words, tuple[float, float]]:
    """One line: log10 probability, words, and a back-off weight if there is one."""
    log_p, *words = line.split()
    try:
        backoff = float(words.pop()) if len(words) == order + 1 else 0.0
        if len(words) != order:
            raise ValueError
        return tuple(words), (float(log_p), backoff)
    except ValueError:
        raise ValueError(f"{place}: '{line}' is no {order}-gram.") from None
