"""Where a recogniser is wrong: alignments, confusions, and error rates of groups of utterances."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import jiwer

from src.metrics.cer import align_characters
from src.metrics.wer import align_words
from src.utils.sections import Chart, Section, Table

Row = dict[str, Any]
Chunk = list[str]  # kind, reference, hypothesis
Counts = tuple[int, int]  # errors, reference words
MOST_CONFUSIONS = 300  # rows in a table
BINS = 6  # in which utterances are put by length or rate
SHOWN_SPACE = "␣"


def is_hypothesis(column: str) -> bool:
    """Whether a column of the table of utterances holds hypotheses of a decoder."""
    return column == "prediction" or column.startswith("prediction_")


def word_alignment(reference: str, hypothesis: str) -> list[Chunk]:
    """The aligned words of an utterance in runs of one kind: [kind, reference, hypothesis].

    Args:
        reference: may be empty.
        hypothesis: may be empty.
    """
    output = align_words([reference], [hypothesis])
    left, right = output.references[0], output.hypotheses[0]
    return [
        [
            chunk.type,
            " ".join(left[chunk.ref_start_idx : chunk.ref_end_idx]),
            " ".join(right[chunk.hyp_start_idx : chunk.hyp_end_idx]),
        ]
        for chunk in output.alignments[0]
    ]


def confusion_table(title: str, outputs: Iterable[Any]) -> Table:
    """The most frequent errors, each with its kind.

    Args:
        title: of the table.
        outputs: jiwer's alignments of one utterance each, by words or by characters.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    for output in outputs:
        left, right = list(output.references[0]), list(output.hypotheses[0])
        for chunk in output.alignments[0]:
            counts.update(errors_of(chunk, left, right))
    rows = [[kind, a, b, number] for (kind, a, b), number in counts.most_common(MOST_CONFUSIONS)]
    left_out = len(counts) - len(rows)
    note = f"{left_out} rarer ones are left out." if left_out else ""
    return Table(title, ["kind", "reference", "hypothesis", "count"], rows, note)


def errors_of(chunk: Any, left: list[str], right: list[str]) -> list[tuple[str, str, str]]:
    """The single errors of a chunk: (kind, reference, hypothesis)."""
    reference = [shown(unit) for unit in left[chunk.ref_start_idx : chunk.ref_end_idx]]
    hypothesis = [shown(unit) for unit in right[chunk.hyp_start_idx : chunk.hyp_end_idx]]
    if chunk.type == "substitute":
        return [("substitution", *pair) for pair in zip(reference, hypothesis, strict=True)]
    if chunk.type == "delete":
        return [("deletion", unit, "") for unit in reference]
    if chunk.type == "insert":
        return [("insertion", "", unit) for unit in hypothesis]
    return []


def shown(unit: str) -> str:
    """A word or character; a space as a visible sign."""
    return SHOWN_SPACE if unit == " " else unit


def analyse(rows: list[Row], hypothesis: str) -> list[Section]:
    """Tables and charts about the errors of one decoder.

    Args:
        rows: of the table of utterances, with `target` and the hypotheses; `seconds`, `speaker`
            and `snr` (in dB) where they are known.
        hypothesis: name of the decoder's column.
    """
    pairs = [(row["target"], row[hypothesis]) for row in rows]
    words = [align_words([a], [b]) for a, b in pairs]
    characters = (align_characters(a, b) for a, b in pairs)
    errors = [word_counts(output) for output in words]
    own = "" if hypothesis == "prediction" else f" of {hypothesis}"
    return [
        confusion_table(f"Confusions of words{own}", words),
        confusion_table(f"Confusions of characters{own}", characters),
        *speaker_sections(rows, errors, own),
        *binned_sections(rows, errors, "length", "words", lambda row, n: n, own),
        *binned_sections(rows, errors, "speaking rate", "words per second", words_per_second, own),
        *binned_sections(rows, errors, "estimated SNR", "dB", lambda row, n: row.get("snr"), own),
    ]


def word_counts(output: jiwer.WordOutput) -> Counts:
    """Errors and reference words of an utterance."""
    wrong = output.substitutions + output.deletions + output.insertions
    return wrong, output.hits + output.substitutions + output.deletions


def words_per_second(row: Row, words: int) -> float | None:
    """Speaking rate by the reference; None where the duration isn't known."""
    return words / row["seconds"] if row.get("seconds") else None


def speaker_sections(rows: list[Row], errors: list[Counts], own: str) -> list[Section]:
    """WER of each speaker, highest first; nothing where no speaker is known."""
    groups: dict[str, list[Counts]] = defaultdict(list)
    for row, counts in zip(rows, errors, strict=True):
        if row.get("speaker") is not None:
            groups[str(row["speaker"])].append(counts)
    table: list[list[Any]] = [[name, *rate_of(counts)] for name, counts in groups.items()]
    table.sort(key=lambda line: -line[-1])
    columns = ["speaker", "utterances", "words", "errors", "WER in %"]
    return [Table(f"Error rate by speaker{own}", columns, table)] if table else []


def binned_sections(
    rows: list[Row],
    errors: list[Counts],
    name: str,
    unit: str,
    measure: Callable[[Row, int], float | None],
    own: str,
) -> list[Section]:
    """WER of utterances in bins of about equal size of a quantity, as a table and a chart.

    Args:
        rows: of the table of utterances.
        errors: errors and reference words of each.
        name: of the quantity.
        unit: of the quantity.
        measure: from a row and its number of words to the quantity; None where it is unknown.
        own: which decoder, for the titles.
    """
    values = [measure(row, counts[1]) for row, counts in zip(rows, errors, strict=True)]
    known = [(v, counts) for v, counts in zip(values, errors, strict=True) if v is not None]
    if not known:
        return []
    table, points = [], []
    for low, high, inside in bins(known):
        counts = rate_of(inside)
        table.append([round(low, 2), round(high, 2), *counts])
        points.append(((low + high) / 2, counts[-1]))
    columns = [f"from ({unit})", f"to ({unit})", "utterances", "words", "errors", "WER in %"]
    title = f"Error rate by {name}{own}"
    return [Table(title, columns, table), Chart(title, unit, "WER in %", {"WER": points}, True)]


def bins(
    known: list[tuple[float, Counts]],
) -> list[tuple[float, float, list[Counts]]]:
    """Lowest and highest value and the counts of each bin; equal values share a bin."""
    known = sorted(known)
    edges = sorted({round(k * len(known) / BINS) for k in range(BINS + 1)})
    parts: list[list[tuple[float, Counts]]] = []
    for start, end in pairwise(edges):
        part = known[start:end]
        while parts and part and part[0][0] == parts[-1][-1][0]:
            parts[-1].append(part.pop(0))
        if part:
            parts.append(part)
    return [(part[0][0], part[-1][0], [counts for _, counts in part]) for part in parts]


def rate_of(counts: list[Counts]) -> list[float]:
    """Utterances, words, errors and WER in % of a group; without words the WER is infinite or 0."""
    wrong, words = (sum(column) for column in zip(*counts, strict=True))
    rate = 100 * wrong / words if words else (math.inf if wrong else 0.0)
    return [len(counts), words, wrong, round(rate, 2)]
