"""Binary language models of KenLM (version 5 of its format), as its build_binary writes them.

Layout, little-endian: a header; a lookup table of words, which is not needed here; the n-grams,
either in hash tables ("probing") or in a trie of packed bits, in both of which a word is a number
and an n-gram is reached from its last word backwards; and the words in the order of their numbers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.text_encoder.decoders.ngram import UNKNOWN, NgramModel, Words
from src.utils.files import check_regular

MAGIC = b"mmap lm http://kheafield.com/code format version 5\n\0"
SANITY = MAGIC.ljust(56, b"\0") + b"".join(
    np.array(values, kind).tobytes()
    for values, kind in (([0, 1, -0.5], "<f4"), ([1, 2**32 - 1, 0], "<u4"), ([1], "<u8"))
)
FIXED = np.dtype(
    [
        ("order", "<u4"),  # a byte and padding
        ("multiplier", "<f4"),
        ("kind", "<u4"),
        ("has_words", "<u4"),
        ("version", "<u4"),
    ]
)
KINDS = ("probing", "rest_probing", "trie", "quant_trie", "array_trie", "quant_array_trie")
PAIR = np.dtype([("prob", "<f4"), ("backoff", "<f4")])
UNIGRAM = np.dtype([*PAIR.descr, ("next", "<u8")])  # of a trie
ENTRY = np.dtype([("key", "<u8"), *PAIR.descr])
LONGEST_ENTRY = np.dtype([("key", "<u8"), ("prob", "<f4")])
WORD_ENTRY_BYTES = 12
MODULUS = 2**64
REBUILD = "build one from the ARPA file with `build_binary probing` or `build_binary trie`"


@dataclass
class Binary:
    """An open file: its bytes, and what the header says.

    Attributes:
        path: of the file.
        data: all bytes, uint8; mapped, not read.
        at: index of the first byte that was not read yet.
        kind: one of `KINDS`.
        counts: number of n-grams of each order.
        multiplier: number of places in a hash table, per entry.
    """

    path: Path
    data: np.ndarray
    at: int
    kind: str
    counts: list[int]
    multiplier: np.float32

    def take(self, size: int) -> np.ndarray:
        """The next `size` bytes.

        Raises:
            ValueError: the file ends before.
        """
        self.at += size
        if self.at > len(self.data):
            raise ValueError(
                f"{self.path}: damaged, it ends after {len(self.data)} bytes of {self.at}."
            )
        return self.data[self.at - size : self.at]

    def places(self, entries: int) -> int:
        """Number of places in a hash table."""
        return max(entries + 1, int(self.multiplier * np.float32(entries)))


def read_language_model(path: Path) -> NgramModel:
    """Read a language model: an ARPA file, plain or gzipped (.gz), or a binary file of KenLM.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, or of a kind that is not supported; names it.
    """
    path = Path(path)
    if path.is_file():
        with path.open("rb") as file:
            if file.read(8) == MAGIC[:8]:
                return read_kenlm(path)
    return NgramModel.from_arpa(path)


def read_kenlm(path: Path) -> NgramModel:
    """Read a binary file of KenLM.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, or of a kind that is not supported; names it.
    """
    file = open_binary(path)
    if file.kind == "probing":
        ngrams = read_tables(file)
        return NgramModel(ngrams, len(file.counts))
    return NgramModel(read_trie(file))


def open_binary(path: Path) -> Binary:
    """Map a file and read its header.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is not a complete file of version 5 with words, or of an unsupported kind.
    """
    check_regular(path)
    size = len(SANITY) + FIXED.itemsize
    data = np.memmap(path, np.uint8, "r") if path.stat().st_size > size else np.zeros(0, np.uint8)
    if data[: len(SANITY)].tobytes() != SANITY:
        raise ValueError(f"{path}: not a binary language model of KenLM's version 5; {REBUILD}.")
    fixed = data[len(SANITY) : size].view(FIXED)[0]
    order, kind = int(fixed["order"] & 255), int(fixed["kind"])
    name = KINDS[kind] if kind < len(KINDS) else str(kind)
    if name == "rest_probing" or kind >= len(KINDS) or fixed["version"] != (kind >= 2):
        raise ValueError(f"{path}: a binary language model of the kind {name}; {REBUILD}.")
    if not fixed["has_words"] & 255:
        raise ValueError(f"{path}: a binary language model without its words; {REBUILD}.")
    if order < 2 or len(data) < size + 8 * order:
        raise ValueError(f"{path}: damaged, the order of the n-grams is {order}.")
    counts = data[size : size + 8 * order].view("<u8").tolist()
    if max(counts) > len(data):
        raise ValueError(f"{path}: damaged, {max(counts)} n-grams in {len(data)} bytes.")
    if not 1 <= fixed["multiplier"] <= 100:
        raise ValueError(f"{path}: damaged, the size of its tables is {fixed['multiplier']}.")
    return Binary(path, data, -(-(size + 8 * order) // 8) * 8, name, counts, fixed["multiplier"])


def read_words(file: Binary) -> list[str]:
    """The words in the order of their numbers, from the end of the file.

    Raises:
        ValueError: they are damaged.
    """
    try:
        words = file.data[file.at :].tobytes().decode("utf-8").split("\0")[:-1]
    except UnicodeDecodeError:
        words = []
    if not words or words[0] != UNKNOWN or len(words) > file.counts[0] + 1:
        raise ValueError(f"{file.path}: damaged, its words are not readable.")
    return words


class HashedNgrams:
    """N-grams in hash tables; they are looked up in the file itself, which takes no memory.

    Args:
        words: in the order of their numbers.
        unigrams: [words], log10 probabilities and back-off weights.
        tables: of the n-grams of 2, 3, ... words; the key of an empty place is 0.
    """

    def __init__(self, words: list[str], unigrams: np.ndarray, tables: list[np.ndarray]):
        self.numbers = {word: number for number, word in enumerate(words)}
        self.unigrams = unigrams
        self.tables = [(table["key"], table) for table in tables]

    def __contains__(self, words: Words) -> bool:
        return self.get(words) is not None

    def __getitem__(self, words: Words) -> tuple[float, float]:
        found = self.get(words)
        if found is None:
            raise KeyError(words)
        return found

    def get(
        self, words: Words, default: tuple[float, float] | None = None
    ) -> tuple[float, float] | None:
        """log10 probability and back-off weight of an n-gram, or `default`."""
        numbers = [self.numbers.get(word, -1) for word in reversed(words)]
        if not numbers or -1 in numbers or len(numbers) > len(self.tables) + 1:
            return default
        if len(numbers) == 1:
            return values_of(self.unigrams[numbers[0]])
        key = numbers[0]
        for number in numbers[1:]:
            key = (key * 8978948897894561157 % MODULUS) ^ (
                (1 + number) * 17894857484156487943 % MODULUS
            )
        keys, table = self.tables[len(numbers) - 2]
        place = key % len(keys)
        for _ in range(len(keys)):
            found = int(keys[place])
            if found == key:
                return values_of(table[place])
            if not found:
                break
            place = (place + 1) % len(keys)
        return default


def values_of(entry: np.void) -> tuple[float, float]:
    """log10 probability and back-off weight; the sign of the former has another meaning."""
    backoff = float(entry["backoff"]) if "backoff" in (entry.dtype.names or ()) else 0.0
    return -abs(float(entry["prob"])), backoff


def read_tables(file: Binary) -> HashedNgrams:
    """The n-grams of a probing file, whose header was read."""
    file.take(8 + WORD_ENTRY_BYTES * file.places(file.counts[0]))
    unigrams = file.take(PAIR.itemsize * (file.counts[0] + 1)).view(PAIR)
    tables = []
    for n, count in enumerate(file.counts[1:], start=2):
        entry = LONGEST_ENTRY if n == len(file.counts) else ENTRY
        tables.append(file.take(entry.itemsize * file.places(count)).view(entry))
    return HashedNgrams(read_words(file), unigrams, tables)


@dataclass
class Level:
    """The n-grams of one order in a trie.

    Attributes:
        numbers: of the first word of each n-gram, [N].
        probs: log10 probabilities, [N].
        backoffs: log10 back-off weights, [N].
        following: position of the first n-gram that is one word longer, [N + 1].
    """

    numbers: np.ndarray
    probs: np.ndarray
    backoffs: np.ndarray
    following: np.ndarray


def read_trie(file: Binary) -> dict[Words, tuple[float, float]]:
    """The n-grams of a trie file, whose header was read.

    Raises:
        ValueError: the file is damaged.
    """
    counts = file.counts
    file.take(8 + 8 * counts[0])
    bins = read_bins(file) if "quant" in file.kind else [None] * (len(counts) - 1)
    unigrams = file.take(UNIGRAM.itemsize * (counts[0] + 2)).view(UNIGRAM)[: counts[0] + 1]
    own, ends = unigrams[:-1], unigrams["next"].astype(np.int64)
    levels = [Level(np.arange(counts[0]), own["prob"], own["backoff"], ends)]
    following = [*counts[2:], None]
    for pair in zip(counts[1:], following, bins, strict=True):
        levels.append(read_level(file, *pair, "array" in file.kind))
    words = read_words(file)
    ngrams: dict[Words, tuple[float, float]] = {}
    prefixes: list[Words] = [()]
    ends = np.array([0, counts[0]])
    for level in levels:
        sizes, numbers = ends[1:] - ends[:-1], level.numbers
        sound = ends[0] == 0 and sizes.min(initial=0) >= 0 and ends[-1] == len(numbers)
        if not sound or numbers.max(initial=0) >= len(words) or not np.isfinite(level.probs).all():
            raise ValueError(f"{file.path}: damaged, its trie is inconsistent.")
        parents = np.repeat(np.arange(len(prefixes)), sizes).tolist()
        pairs = zip(numbers.tolist(), parents, strict=True)
        prefixes = [(words[number], *prefixes[parent]) for number, parent in pairs]
        values = zip((-np.abs(level.probs)).tolist(), level.backoffs.tolist(), strict=True)
        ngrams.update(zip(prefixes, values, strict=True))
        ends = level.following
    return ngrams


@dataclass
class Bins:
    """The values that the quantised numbers of one order stand for.

    Attributes:
        probs: [2 ** bits], log10 probabilities.
        backoffs: [2 ** bits], log10 back-off weights; empty for the highest order.
    """

    probs: np.ndarray
    backoffs: np.ndarray


def read_bins(file: Binary) -> list[Bins | None]:
    """The values of quantised numbers, for the n-grams of 2, 3, ... words.

    Raises:
        ValueError: the file is damaged.
    """
    version, prob_bits, backoff_bits = file.take(8)[:3].tolist()
    if version != 2 or not (1 <= prob_bits <= 25 and 1 <= backoff_bits <= 25):
        raise ValueError(f"{file.path}: damaged, its numbers have {prob_bits} bits.")
    bins: list[Bins | None] = []
    for longest in [False] * (len(file.counts) - 2) + [True]:
        probs = file.take(4 << prob_bits).view("<f4")
        backoffs = file.take(0 if longest else 4 << backoff_bits).view("<f4")
        bins.append(Bins(probs, backoffs))
    return bins


def read_level(
    file: Binary, count: int, count_next: int | None, bins: Bins | None, array: bool
) -> Level:
    """Read the n-grams of one order in a trie.

    Args:
        file: at the beginning of the order.
        count: number of n-grams.
        count_next: number of n-grams that are one word longer; None for the highest order.
        bins: of quantised numbers; None: they are floats.
        array: whether the pointers are compressed.
    """
    longest, chopped, offsets = count_next is None, 0, np.zeros(1, np.int64)
    if array and count_next is not None:
        chopped, offsets = read_offsets(file, count, count_next)
    inline = (count_next or 0).bit_length() - chopped
    if bins is None:
        prob_bits, backoff_bits = 31, 0 if longest else 32
    else:
        prob_bits = len(bins.probs).bit_length() - 1
        backoff_bits = max(len(bins.backoffs).bit_length() - 1, 0)
    word_bits = file.counts[0].bit_length()
    width = word_bits + prob_bits + backoff_bits + inline
    packed = file.take(((1 + count) * width + 7) // 8 + 8)
    starts = np.arange(count) * width
    numbers = bits_at(packed, starts, word_bits)
    starts += word_bits
    if bins is None:
        probs = bits_at(packed, starts, prob_bits).astype("<u4").view("<f4")
        backoffs = bits_at(packed, starts + prob_bits, backoff_bits).astype("<u4").view("<f4")
    else:
        probs = bins.probs[bits_at(packed, starts + backoff_bits, prob_bits)]
        backoffs = np.zeros(count, np.float32)
        if backoff_bits:
            backoffs = bins.backoffs[bits_at(packed, starts, backoff_bits)]
    pointers = bits_at(packed, np.arange(count + 1) * width + (width - inline), inline)
    high = np.searchsorted(offsets, np.arange(count + 1), side="right") - 1
    return Level(numbers, probs, backoffs, pointers + (high << inline))


def bits_at(packed: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Whole numbers of `length` bits, up to 57, in packed bytes, 8 of which follow the last one.

    Args:
        packed: uint8.
        starts: of the numbers, in bits, [N].
        length: of each number, in bits.
    """
    octets = packed[(starts >> 3)[:, None] + np.arange(8)]
    shifted = octets.view("<u8")[:, 0] >> (starts & 7).astype(np.uint64)
    return (shifted & np.uint64((1 << length) - 1)).astype(np.int64)


def read_offsets(file: Binary, count: int, count_next: int) -> tuple[int, np.ndarray]:
    """Where the upper bits of compressed pointers change.

    Returns:
        The number of upper bits, and the first n-gram for each value of them.
    """
    required, rows = count_next.bit_length(), count + 1
    start = file.at
    most = int(file.data[start + 1]) if start + 1 < len(file.data) else 0
    costs = [
        (count_next >> (required - chopped)) * 64 - rows * chopped
        for chopped in range(min(required, most) + 1)
    ]
    chopped = costs.index(min(costs))
    size = (count_next >> (required - chopped)) + 1
    taken = file.take(8 * (1 + size) + 7)
    begin = -start % 8 + 8
    return chopped, taken[begin : begin + 8 * size].view("<u8").astype(np.int64)
