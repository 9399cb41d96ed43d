"""Datasets for the classification of utterances: by speaker, or by a keyword in the text."""

from collections.abc import Sequence
from typing import Any

from src.datasets.base_dataset import BaseDataset, Item
from src.datasets.filters import count_for_each, keep_rows
from src.datasets.manifest import Manifest, Row
from src.datasets.splitting import Values, part_by_hash, words_in, words_of
from src.utils.options import check_choice, check_labels, is_finite, refuse

TARGETS = ("speaker", "keyword")
NONE = -1  # class of a row that has none of the labels
SHORTEST_KEYWORD = 4  # letters
SHARED = 0.1  # fraction


class ClassificationDataset(BaseDataset):
    """Items {id, path, seed, audio [T], speaker?, label, class_id} of a manifest.

    Rows of no class are dropped. `minutes` and `limit` count the others.

    Args:
        manifest: the rows.
        labels: names of the classes; `class_id` is the index.
        target: `speaker`, the one of the row; or `keyword`, the only one of the labels that is a
            word of its text, in any case. A text with two different keywords has no class. Words
            are those of `splitting.words_in`, which have no apostrophes.
        part: the rows whose files' names are at positions from 0 to 1 in this range, without its
            end, as of `splitting.position`: for training and test with the same speakers. None:
            all.
        options: of `BaseDataset`.

    Raises:
        ValueError: no rows are left, or an option has an invalid value, e.g. a keyword isn't one
            word.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        labels: Sequence[str],
        target: str,
        part: Sequence[float] | None = None,
        **options,
    ):
        check_choice("target", target, TARGETS)
        self.labels, self.target = check_labels("labels", labels), target
        names = (
            self.labels if target == "speaker" else check_labels("labels", keywords(self.labels))
        )
        self.classes = {name: i for i, name in enumerate(names)}
        if part is not None:
            manifest = part_by_hash(manifest, utterance_of, check_part(part))
        found = count_for_each(manifest, lambda i: self.class_of(manifest.values(i)))
        reason = f"of none of the {len(self.labels)} classes ({target})"
        super().__init__(keep_rows(manifest, [(found != NONE, reason)]), **options)

    def class_of(self, values: Values) -> int:
        """The class of a row; `NONE` if it has none."""
        if self.target == "speaker":
            return self.classes.get(values.get("speaker") or "", NONE)
        own = self.classes.keys() & {*words_of(values)}
        return self.classes[own.pop()] if len(own) == 1 else NONE

    def make_item(self, row: Row, id: str, seed: int) -> Item:
        """The item of a row before the transforms."""
        found = self.class_of({"speaker": row.speaker, "text": row.text})
        own = {"label": self.labels[found], "class_id": found}
        return super().make_item(row, id, seed) | own


class ManifestLabels(ClassificationDataset):
    """The utterances of a manifest with their classes.

    Args:
        manifest: path of the file, JSON lines.
        options: of `ClassificationDataset`.
    """

    def __init__(self, manifest: str, **options):
        super().__init__(Manifest(manifest), **options)


def keywords(labels: Sequence[str]) -> list[str]:
    """The word that each label is among the words of a text.

    Raises:
        ValueError: a label isn't one word.
    """
    words = [words_in(label) for label in labels]
    for label, own in zip(labels, words, strict=True):
        if len(own) != 1:
            refuse("labels", label, "a single word of letters and digits as a keyword")
    return [word for (word,) in words]


def utterance_of(values: Values) -> str:
    """What tells an utterance from the others of a corpus: its file, and where it starts there."""
    return f"{values['audio_filepath']}:{values.get('offset') or 0:g}"


def check_part(part: Any) -> tuple[float, float]:
    """The limits of a part.

    Raises:
        ValueError: they aren't two ascending numbers from 0 to 1.
    """
    if len(part) != 2 or not all(map(is_finite, part)) or not 0 <= part[0] < part[1] <= 1:
        refuse("part", list(part), "two ascending numbers from 0 to 1")
    return float(part[0]), float(part[1])


def speakers_in(manifest: Manifest) -> list[str]:
    """The names of all speakers, in alphabetical order.

    Raises:
        ValueError: there are fewer than two.
    """
    names = sorted({row.speaker for row in manifest if row.speaker})
    if len(names) < 2:
        raise ValueError(f"{manifest.path}: {len(names)} speakers; two or more, as `speaker`.")
    return names


def choose_keywords(manifest: Manifest, count: int) -> list[str]:
    """Frequent words of which a sentence rarely has two; the most frequent first.

    Args:
        manifest: of the sentences.
        count: how many; words with fewer than `SHORTEST_KEYWORD` letters are left out, and those of
            whose sentences more than `SHARED` have a more frequent keyword, too.

    Raises:
        ValueError: there are fewer.
    """
    rows: dict[str, list[int]] = {}  # in which a word is
    for i in range(len(manifest)):
        for word in {*words_of(manifest.values(i))}:
            rows.setdefault(word, []).append(i)
    long = sorted(word for word in rows if len(word) >= SHORTEST_KEYWORD)
    taken: set[int] = set()
    keywords: list[str] = []
    for word in sorted(long, key=lambda word: -len(rows[word])):
        if len(taken.intersection(rows[word])) <= SHARED * len(rows[word]):
            keywords.append(word)
            taken.update(rows[word])
        if len(keywords) == count:
            return keywords
    raise ValueError(f"{manifest.path}: has {len(keywords)} of {count} keywords.")
