"""Word n-gram language models with back-off, in ARPA files."""

import gzip
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from src.utils.files import write_beside

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
LOG_ZERO = -99.0  # log10 of probability 0 in ARPA files
SECTION = re.compile(r"\\([1-9][0-9]?)-grams:")
NUMBER = re.compile(r"ngram\s+([1-9][0-9]?)\s*=\s*([0-9]+)")  # of the n-grams of a section

Words = tuple[str, ...]


class NgramModel:
    """N-gram language model with back-off (Katz, 1987).

    Unknown words have the probability of <unk>, or 10^-99 if the model has no <unk>.

    Args:
        ngrams: words -> (log10 probability, log10 back-off weight).
        order: length of the longest n-grams in words; None: as `ngrams`, a dict, says.

    Raises:
        ValueError: there are no n-grams.

    Attributes:
        order: length of the longest n-grams in words.
        start: context at the start of a sentence.
    """

    def __init__(self, ngrams: Any, order: int | None = None):
        if order is None and not ngrams:
            raise ValueError("language model: there are no n-grams.")
        self.ngrams = ngrams
        self.order = order or max(map(len, ngrams))
        self.start = self.extend((), START)

    @classmethod
    def from_arpa(cls, path: Path) -> "NgramModel":
        """Read an ARPA file, plain or gzipped (.gz).

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is damaged, or a line is not an n-gram; names file and line.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such language model.")
        try:
            with open_text(path, "rt") as file:
                ngrams = dict(read_ngrams(file, path))
        except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not readable as an ARPA file ({error}).") from None
        if not ngrams:
            raise ValueError(f"{path}: holds no n-grams; not an ARPA file?")
        return cls(ngrams)

    def write_arpa(self, path: Path) -> None:
        """Write an ARPA file, gzipped if the name ends in .gz."""
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
        """The ARPA line of an n-gram; n-grams of the highest order have no back-off weight."""
        log_p, backoff = self.ngrams[words]
        weight = "" if len(words) == self.order else f"\t{backoff:.7g}"
        return f"{log_p:.7g}\t{' '.join(words)}{weight}\n"

    def words(self) -> list[str]:
        """All words of the model, <s>, </s> and <unk> among them."""
        if isinstance(self.ngrams, dict):
            return [words[0] for words in self.ngrams if len(words) == 1]
        return list(self.ngrams.numbers)

    def log_prob(self, word: str, context: Words) -> float:
        """Natural logarithm of p(word | context), with back-off."""
        if (word,) not in self.ngrams:
            word = UNKNOWN
        return math.log(10) * self.log10_prob(word, context)

    def log10_prob(self, word: str, context: Words) -> float:
        """log10 p(word | context): the longest known n-gram plus the back-off weights."""
        weight = 0.0
        for start in range(len(context) + 1):
            ngram = self.ngrams.get((*context[start:], word))
            if ngram is not None:
                return weight + ngram[0]
            weight += self.ngrams.get(context[start:], (0.0, 0.0))[1]
        return LOG_ZERO

    def extend(self, context: Words, word: str) -> Words:
        """The context after one more word, truncated to order - 1 words."""
        if self.order == 1:
            return ()
        known = word if (word,) in self.ngrams else UNKNOWN
        return (*context, known)[1 - self.order :]

    def end_log_prob(self, context: Words) -> float:
        """Natural logarithm of p(</s> | context)."""
        return self.log_prob(END, context)

    def sentence_log_prob(self, words: Sequence[str]) -> float:
        """Natural logarithm of p(words, </s> | <s>)."""
        context, total = self.start, 0.0
        for word in words:
            total += self.log_prob(word, context)
            context = self.extend(context, word)
        return total + self.end_log_prob(context)


def open_text(path: Path, mode: str, suffix: str | None = None) -> TextIO:
    """Open a UTF-8 text file, through gzip if the suffix (by default the file's) is .gz."""
    opener = gzip.open if (suffix or path.suffix) == ".gz" else open
    return opener(path, mode, encoding="utf-8")  # type: ignore[operator, return-value]


def read_ngrams(file: TextIO, path: Path) -> Iterator[tuple[Words, tuple[float, float]]]:
    """The n-grams of an ARPA file; of lines before the first section, their numbers are read.

    Raises:
        ValueError: a line is not an n-gram, the end is missing, or there are fewer or more n-grams
            than the file says; names the file.
    """
    order = 0
    wanted: dict[int, int] = {}
    found: Counter[int] = Counter()
    for number, line in enumerate(file, start=1):
        line = line.strip()
        section = SECTION.fullmatch(line)
        if section:
            order = int(section[1])
        elif line == "\\end\\":
            break
        elif order and line:
            found[order] += 1
            yield parse(line, order, f"{path}, line {number}")
        elif count := NUMBER.fullmatch(line):
            wanted[int(count[1])] = int(count[2])
    else:
        if order:
            raise ValueError(f"{path}: ends without \\end\\; the file was cut off.")
    for n, announced in wanted.items():
        if found[n] != announced:
            raise ValueError(f"{path}: {found[n]} {n}-grams, but {announced} are announced.")


def parse(line: str, order: int, place: str) -> tuple[Words, tuple[float, float]]:
    """Parse a line: log10 probability, words, optional log10 back-off weight.

    Raises:
        ValueError: the line is not an n-gram of this order; names the place.
    """
    log_p, *words = line.split()
    try:
        backoff = float(words.pop()) if len(words) == order + 1 else 0.0
        values = (float(log_p), backoff)
        if len(words) != order or not all(map(math.isfinite, values)):
            raise ValueError
        return tuple(words), values
    except ValueError:
        raise ValueError(f"{place}: '{line}' is no {order}-gram.") from None
