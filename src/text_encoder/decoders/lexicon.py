"""The words that a beam search is restricted to, as a trie of their spellings in tokens."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from src.text_encoder.base import TextEncoder
from src.text_encoder.decoders.ngram import END, START, UNKNOWN, NgramModel
from src.utils.files import read_bytes
from src.utils.options import shown

logger = logging.getLogger(__name__)

SPACE = " "
NO_WORD = -1
ROOT = 0
MANY = 32  # arcs of a node, from which on they are looked up by token

Spelling = tuple[str, tuple[int, ...]]  # a word and its token ids


class Lexicon:
    """A trie of spellings, whose arcs are arrays sorted by node and token.

    An arc is a token after a prefix of spellings. It leads to a longer prefix or completes a word
    and leads back to the root; a token that does both has two arcs, and one that completes several
    words an arc for each of them. Node 0 is the root.

    Args:
        spellings: of the words; a word may have several, and several words the same.
        vocabulary: tokens in the order of their ids. If the space is one of them, each spelling is
            followed by it.
        promises: beginning of a word -> what it adds to the score until the word is complete.

    Raises:
        ValueError: there are no spellings.

    Attributes:
        words: all different words.
        space: id of the space; None: words are not separated by a token of its own.
        token, target, word: [A], of each arc: its token, the node that it leads to, and the word
            that it completes, an index of `words`, or `NO_WORD`.
        gain: [A], what an arc multiplies a probability by, from the promises.
        first: [X + 1], the first arc of each node.
        place: [A], number of an arc among those of its node.
        table: [X, V + 1] of the nodes with many arcs only: the first arc for a token.
        row: [X], a node's row in `table`; -1: it has few arcs.
    """

    def __init__(
        self,
        spellings: Iterable[Spelling],
        vocabulary: list[str],
        promises: Mapping[str, float] | None = None,
    ):
        self.space = vocabulary.index(SPACE) if SPACE in vocabulary else None
        numbers: dict[str, int] = {}
        nodes: dict[tuple[int, int], int] = {}  # (node, token) -> longer prefix
        texts = [""]  # of the nodes
        ends: list[tuple[int, int, int]] = []  # node, token and word
        for word, tokens in dict.fromkeys(spellings):
            if self.space is not None:
                tokens = (*tokens, self.space)
            node = ROOT
            for token in tokens[:-1]:
                longer = nodes.setdefault((node, token), len(texts))
                if longer == len(texts):
                    texts.append(texts[node] + vocabulary[token].lstrip("\u2581"))
                node = longer
            ends.append((node, tokens[-1], numbers.setdefault(word, len(numbers))))
        if not ends:
            raise ValueError("beam search, lexicon: there are no words in it.")
        self.words = list(numbers)
        self.promises = np.array([(promises or {}).get(text, 0.0) for text in texts])
        inner = [(node, token, NO_WORD, target) for (node, token), target in nodes.items()]
        arcs = np.array(inner + [(*end, ROOT) for end in ends], dtype=np.int64)
        arcs = arcs[np.lexsort((arcs[:, 2], arcs[:, 1], arcs[:, 0]))]
        source, self.token, self.word, self.target = (np.ascontiguousarray(c) for c in arcs.T)
        self.gain = np.exp(self.promises[self.target] - self.promises[source])
        self.first = np.searchsorted(source, np.arange(len(texts) + 1))
        self.place = np.arange(len(source)) - self.first[source]
        self.degree = np.diff(self.first)
        many = np.flatnonzero(self.degree > MANY)
        self.row = np.full(len(texts), -1)
        self.row[many] = np.arange(len(many))
        keys = source * (len(vocabulary) + 1) + self.token
        wanted = many[:, None] * (len(vocabulary) + 1) + np.arange(len(vocabulary) + 1)
        self.table = np.searchsorted(keys, wanted)

    def completing(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The arcs by which words are complete at the end of an utterance.

        Without a space, words are complete without one more token.

        Args:
            nodes: [N].

        Returns:
            Indices of `nodes` and arcs, each [M].
        """
        if self.space is None:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        index, arcs = ranges(self.first[nodes], self.degree[nodes])
        complete = (self.token[arcs] == self.space) & (self.word[arcs] != NO_WORD)
        return index[complete], arcs[complete]


def ranges(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers start, start + 1, ... of several ranges one after the other.

    Args:
        starts, counts: of the ranges, [N].

    Returns:
        The range of each number, and the number, both [sum of counts].
    """
    owner = np.arange(len(counts)).repeat(counts)
    offset = starts - counts.cumsum() + counts
    return owner, np.arange(len(owner)) + offset[owner]


def words_of_model(model: NgramModel, encoder: TextEncoder) -> Iterator[Spelling]:
    """The words of a language model, as the text encoder spells them.

    Words that it can't spell are left out, which is logged.
    """
    left_out = []
    for word in model.words():
        if word in (START, END, UNKNOWN):
            continue
        try:
            yield word, spelled(word, encoder)
        except ValueError:
            left_out.append(word)
    if left_out:
        logger.warning(
            "%d words of the language model can't be spelled and are not recognised, e.g. %s.",
            len(left_out),
            shown(left_out[0]),
        )


def read_lexicon(path: Path, encoder: TextEncoder) -> Iterator[Spelling]:
    """The words of a file, one a line, each alone or followed by its spelling.

    A spelling is tokens separated by spaces; a last token | stands for the space after the word, as
    in lexicons for flashlight, and is left out. Without a spelling the text encoder spells the
    word.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is no UTF-8 text, or a word can't be spelled; names file and line.
    """
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not readable as a lexicon ({error}).") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        word, *tokens = line.split()
        if tokens and tokens[-1] == "|" and "|" not in encoder.ids:
            tokens.pop()
        try:
            yield word, spelled(word, encoder) if not tokens else ids_of(tokens, encoder)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None


def spelled(word: str, encoder: TextEncoder) -> tuple[int, ...]:
    """Token ids of a word.

    Raises:
        ValueError: it has a character outside the vocabulary, or its normalised form is not one
            word, this one.
    """
    if encoder.normalize(word) != word or word.split() != [word]:
        raise ValueError(f"{shown(word)}; a word in its normalised form.")
    return tuple(encoder.encode(word))


def ids_of(tokens: list[str], encoder: TextEncoder) -> tuple[int, ...]:
    """Token ids of a spelling.

    Raises:
        ValueError: a token is not in the vocabulary; names it.
    """
    for token in tokens:
        if token not in encoder.ids:
            raise ValueError(f"the token {shown(token)} is not in the vocabulary.")
    return tuple(encoder.ids[token] for token in tokens)
