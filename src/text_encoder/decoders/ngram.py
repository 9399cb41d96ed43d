"""Back-off n-gram language models from ARPA files."""

import gzip
import math
from pathlib import Path

UNKNOWN = "<unk>"
UNKNOWN_LOG10 = -7.0  # of a word that the model does not know, if it has no <unk>


class NgramModel:
    """Probabilities of words after others, with back-off (Katz, 1987).

    Args:
        ngrams: words -> (log10 probability, log10 back-off weight).
        order: words of the longest n-gram.
    """

    def __init__(self, ngrams: dict[tuple[str, ...], tuple[float, float]], order: int):
        self.ngrams, self.order = ngrams, order

    @classmethod
    def from_arpa(cls, path: Path) -> "NgramModel":
        """Read an ARPA file, plain or gzipped.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a line isn't an n-gram; names it.
        """
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such language model.")
        opener = gzip.open if path.suffix == ".gz" else open
        ngrams: dict[tuple[str, ...], tuple[float, float]] = {}
        order = 0
        with opener(path, "rt", encoding="utf-8") as file:  # type: ignore[operator]
            for number, line in enumerate(file, start=1):
                line = line.strip()
                if line.endswith("-grams:"):
                    order = int(line[1:].split("-")[0])
                elif order and line and not line.startswith("\\"):
                    words, values = parse(line, order, path, number)
                    ngrams[words] = values
        if not ngrams:
            raise ValueError(f"{path}: holds no n-grams.")
        return cls(ngrams, order)

    def log_prob(self, word: str, context: tuple[str, ...]) -> float:
        """Natural logarithm of p(word | context)."""
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        return self.log10_prob(word, context) * math.log(10)

    def log10_prob(self, word: str, context: tuple[str, ...]) -> float:
        """The longest n-gram that is known, and the back-off weights on the way to it."""
        found = self.ngrams.get((*context, word))
        if found is not None:
            return found[0]
        if context:
            weight = self.ngrams.get(context, (0.0, 0.0))[1]
            return weight + self.log10_prob(word, context[1:])
        return self.ngrams.get((UNKNOWN,), (UNKNOWN_LOG10, 0.0))[0]


def parse(
    line: str, order: int, path: Path, number: int
) -> tuple[tuple[str, ...], tuple[float, float]]:
    """One line: log10 probability, words, and a back-off weight if there is one."""
    fields = line.split()
    try:
        if len(fields) not in (order + 1, order + 2):
            raise ValueError
        backoff = float(fields[-1]) if len(fields) == order + 2 else 0.0
        return tuple(fields[1 : order + 1]), (float(fields[0]), backoff)
    except ValueError:
        raise ValueError(f"{path}, line {number}: '{line}' is no {order}-gram.") from None
