"""Text normalisation: lower case, words only, numbers spelt out."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from src.text_encoder.languages import LANGUAGES
from src.text_encoder.latin import transliterate
from src.text_encoder.numbers import NumberSpeller
from src.utils.options import check_choice

LATIN = ("keep", "transliterate")
APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u02b9\u0060\u2032", "'"))
ACUTE = {"\u00b4": "\u2019"}  # often typed as an apostrophe; NFKC would make it a space
# Typographic spaces between groups of three digits.
DIGIT_SPACE = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")
# Between a digit and an exponent, an index or a fraction, which NFKC would make more digits of it.
RAISED = re.compile("(?<=[0-9])(?=[\u00b2\u00b3\u00b9\u2070\u2074-\u207b\u2080-\u208b¼½¾⅐-⅟↉])")
HALF = re.compile("((?:[0-9]\\s?)?)([½¼¾])")
DECIMALS = {"½": ".5", "¼": ".25", "¾": ".75"}
# Text in single quotation marks; apostrophes between letters belong to the text.
QUOTED = re.compile(r"(?<!\w)'(?=\w)((?:[^']|(?<=\w)'(?=\w))*)(?<=\S)'(?!\w)")


class Normalizer:
    """Normalises text: Unicode NFKC, lower case, no punctuation, numbers spelt out.

    Normalisation is idempotent: text that consists of letters of the language, apostrophes and
    single spaces is returned unchanged. Apostrophes of English words are kept, quotation marks
    and accents on English letters are removed, punctuation and symbols become spaces. Letters of
    other alphabets are kept, so that the text encoder can report them, unless `latin` says else.

    Args:
        language: `en` or `ru`.
        fold_yo: replace the Russian letter ё by е.
        latin: what becomes of Latin letters in Russian texts: `keep`, or `transliterate` to
            Cyrillic ones.

    Raises:
        ValueError: the language is not known, or another option has no such value.
    """

    def __init__(self, language: str, fold_yo: bool = False, latin: str = "keep"):
        check_choice("text_encoder, language", language, tuple(LANGUAGES))
        check_choice("text_encoder, fold_yo", fold_yo, (True, False))
        check_choice("text_encoder, latin", latin, LATIN)
        if latin != "keep" and language != "ru":
            raise ValueError(f"text_encoder, latin: '{latin}', but the language is '{language}'.")
        self.language, self.fold_yo, self.latin = language, fold_yo, latin
        self.spell_numbers = NumberSpeller(language)
        self.halves = LANGUAGES[language].halves
        units = "".join(map(re.escape, LANGUAGES[language].units))
        self.counted = re.compile(rf"(?<=[0-9])\s?([½¼¾])(?=\s?[{units}])")
        self.normal = LANGUAGES[language].normal
        signs = LANGUAGES[language].words
        self.words = str.maketrans({sign: f" {word} " for sign, word in signs.items()} | ACUTE)
        self.other = re.compile(r"[^\w']|_" if language == "en" else r"\W|_")

    @property
    def alphabet(self) -> str:
        """Characters of normalised text, the space first."""
        letters = LANGUAGES[self.language].alphabet
        return letters.replace("ё", "") if self.fold_yo else letters

    def __call__(self, text: str) -> str:
        """The normalised text: words separated by single spaces."""
        if not self.normal.fullmatch(text):
            text = self.normalize(text)
        return text.replace("ё", "е") if self.fold_yo else text

    def describe(self) -> dict[str, str | bool]:
        """The constructor's arguments, JSON-serialisable."""
        own: dict[str, str | bool] = {"language": self.language, "fold_yo": self.fold_yo}
        return own if self.latin == "keep" else own | {"latin": self.latin}

    def normalize(self, text: str) -> str:
        """Normalise a text that is not in normal form yet; ё is kept."""
        text = self.split_numbers(DIGIT_SPACE.sub("", text).translate(self.words))
        text = " ".join(unicodedata.normalize("NFKC", text).lower().split())
        if self.normal.fullmatch(text):
            return text
        text = self.spell_numbers(without_quotes(text.translate(APOSTROPHES)))
        text = without_marks(text, decompose=self.language == "en")
        text = self.other.sub(" ", text)
        text = transliterate(text) if self.latin == "transliterate" else text
        return " ".join(word for word in text.split() if word.strip("'"))

    def split_numbers(self, text: str) -> str:
        """The text with fractions and exponents apart from the digits before: `5½` -> 5 and a half.

        ½, ¼ and ¾ are put in words; before a unit they become decimals, which its form follows.
        """
        if text.isascii():
            return text
        text = self.counted.sub(lambda m: DECIMALS[m[1]], text)
        text = HALF.sub(lambda m: f"{m[1]} {self.halves[m[2]][bool(m[1])]} ", text)
        return RAISED.sub(" ", text)


def without_quotes(text: str) -> str:
    """The text without quotation marks: `'it's here,' he said` -> `it's here, he said`."""
    return QUOTED.sub(r"\1", text.replace("''", " ")) if "'" in text else text


def without_marks(text: str, decompose: bool) -> str:
    """The text without combining marks.

    Args:
        text: in NFKC.
        decompose: also strip the marks of precomposed letters, `é` -> `e`. Not for Russian, where
            й and ё are letters of their own.
    """
    if text.isascii():
        return text
    text = unicodedata.normalize("NFD", text) if decompose else text
    return "".join(c for c in text if not unicodedata.combining(c))


def normalized(texts: Iterable[str], normalize: Normalizer, path: Path) -> Iterator[str]:
    """Normalised texts, without the empty ones.

    Args:
        texts: as they are written.
        normalize: makes a text normal.
        path: of the file that they are read from, for the message.

    Raises:
        ValueError: none is left.
    """
    count = 0
    for text in filter(None, map(normalize, texts)):
        count += 1
        yield text
    if not count:
        raise ValueError(f"{path}: no texts to train on.")
