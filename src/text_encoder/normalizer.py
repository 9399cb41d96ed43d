"""Text as it is spoken: lower case, words only, numbers spelt out."""

import re
import unicodedata

from src.text_encoder.languages import LANGUAGES
from src.text_encoder.numbers import NumberSpeller

APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u02b9\u0060\u2032", "'"))
ACUTE = {"\u00b4": "\u2019"}  # typed for an apostrophe; NFKC would make a space of it
# Spaces that printers put between groups of three digits.
DIGIT_SPACE = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")
# Single quotes around words, which may hold apostrophes between letters.
QUOTED = re.compile(r"(?<!\w)'(?=\w)((?:[^']|(?<=\w)'(?=\w))*)(?<=\S)'(?!\w)")


class Normalizer:
    """Makes text comparable: unicode NFKC, lower case, no punctuation, numbers in words.

    Text that has nothing but letters of the language, apostrophes and single spaces comes back
    as it is, so that normalising twice changes nothing. Apostrophes that belong to an English
    word stay, quotes go; accents on English letters go. Punctuation and symbols become spaces.
    Letters of other alphabets stay, so that the text encoder can name them.

    Args:
        language: en or ru.
        fold_yo: write the Russian letter ё as е.

    Raises:
        ValueError: another language.
    """

    def __init__(self, language: str, fold_yo: bool = False):
        if language not in LANGUAGES:
            raise ValueError(f"language '{language}' is none of {', '.join(LANGUAGES)}.")
        self.language, self.fold_yo = language, fold_yo
        self.spell_numbers = NumberSpeller(language)
        self.normal = LANGUAGES[language].normal
        signs = LANGUAGES[language].words
        self.words = str.maketrans({sign: f" {word} " for sign, word in signs.items()} | ACUTE)
        self.other = re.compile(r"[^\w']|_" if language == "en" else r"\W|_")

    @property
    def alphabet(self) -> str:
        """The characters of normal text, the space first."""
        letters = LANGUAGES[self.language].alphabet
        return letters.replace("ё", "") if self.fold_yo else letters

    def __call__(self, text: str) -> str:
        """The text as words with single spaces between them."""
        if not self.normal.fullmatch(text):
            text = self.normalize(text)
        return text.replace("ё", "е") if self.fold_yo else text

    def describe(self) -> dict[str, str | bool]:
        """The arguments that make it again, for JSON."""
        return {"language": self.language, "fold_yo": self.fold_yo}

    def normalize(self, text: str) -> str:
        """The long way, for text that isn't normal already."""
        text = DIGIT_SPACE.sub("", text).translate(self.words)
        text = " ".join(unicodedata.normalize("NFKC", text).lower().split())
        if self.normal.fullmatch(text):
            return text
        text = self.spell_numbers(without_quotes(text.translate(APOSTROPHES)))
        text = without_marks(text, apart=self.language == "en")
        text = self.other.sub(" ", text)
        return " ".join(word for word in text.split() if word.strip("'"))


def without_quotes(text: str) -> str:
    """`'it's here,' he said` -> `it's here, he said`."""
    return QUOTED.sub(r"\1", text.replace("''", " ")) if "'" in text else text


def without_marks(text: str, apart: bool) -> str:
    """The text without combining marks.

    Args:
        text: in NFKC.
        apart: take letters with marks apart first, `é` -> `e`; й and ё need theirs.
    """
    if text.isascii():
        return text
    text = unicodedata.normalize("NFD", text) if apart else text
    return "".join(c for c in text if not unicodedata.combining(c))
