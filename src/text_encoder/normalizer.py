"""Text as it is spoken: lower case, words only, numbers spelt out."""

import re
import unicodedata
from collections.abc import Callable

from num2words import num2words

APOSTROPHES = str.maketrans("\u2019\u2018\u02bc\u0060\u00b4", "'''''")
SYMBOLS = {
    "en": {"%": " percent ", "&": " and ", "+": " plus ", "@": " at "},
    "ru": {"%": " процентов ", "&": " и ", "+": " плюс ", "№": " номер "},
}
CURRENCIES = {
    "en": {"$": "dollars", "£": "pounds", "€": "euros"},
    "ru": {"$": "долларов", "₽": "рублей", "€": "евро"},
}
NORMAL = {"en": re.compile(r"[a-z']+(?: [a-z']+)*"), "ru": re.compile(r"[а-яё]+(?: [а-яё]+)*")}
NUMBER = r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?"
ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)\b")


class Normalizer:
    """Makes text comparable: unicode NFKC, lower case, no punctuation, numbers in words.

    Apostrophes inside English words stay. Numbers are read as cardinals, `21st` as an ordinal;
    Russian ones always in the nominative.

    Args:
        language: en or ru.
        fold_yo: write the Russian letter ё as е.

    Raises:
        ValueError: another language.
    """

    def __init__(self, language: str, fold_yo: bool = False):
        if language not in SYMBOLS:
            raise ValueError(f"language '{language}' is none of {', '.join(SYMBOLS)}.")
        self.language, self.fold_yo = language, fold_yo

    def __call__(self, text: str) -> str:
        """The text as words with single spaces between them."""
        if not NORMAL[self.language].fullmatch(text):
            text = self.normalize(text)
        return text.replace("ё", "е") if self.fold_yo else text

    def normalize(self, text: str) -> str:
        """The long way, for text that isn't normal already."""
        text = unicodedata.normalize("NFKC", text).translate(APOSTROPHES).lower()
        text = self.spell_currencies(text)
        text = ORDINAL.sub(self.spoken("ordinal"), text)
        text = re.sub(NUMBER, self.spoken("cardinal"), text)
        for symbol, word in SYMBOLS[self.language].items():
            text = text.replace(symbol, word)
        text = strip_accents(text) if self.language == "en" else text
        text = "".join(c if c.isalpha() or c == "'" else " " for c in text)
        words = (word.strip("'") for word in text.split())
        return " ".join(word for word in words if word)

    def spoken(self, kind: str) -> Callable[[re.Match], str]:
        """A replacement that reads the number of a match aloud."""

        def replace(match: re.Match) -> str:
            digits = match[1] if kind == "ordinal" else match[0]
            value = float(to_point(digits)) if re.search(r"[.,]", digits) else int(digits)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            return f" {num2words(value, lang=self.language, to=kind)} "

        return replace

    def spell_currencies(self, text: str) -> str:
        """`$5` -> `5 dollars`."""
        for symbol, word in CURRENCIES[self.language].items():
            sign = re.escape(symbol)
            text = re.sub(rf"{sign}\s*({NUMBER})", rf"\1 {word} ", text)
            text = text.replace(symbol, f" {word} ")
        return text


def to_point(digits: str) -> str:
    """`1,234` -> `1234`, `2,5` -> `2.5`."""
    if re.fullmatch(r"\d+(?:,\d{3})+(?:\.\d+)?", digits):
        return digits.replace(",", "")
    return digits.replace(",", ".")


def strip_accents(text: str) -> str:
    """`café` -> `cafe`."""
    apart = unicodedata.normalize("NFD", text)
    return "".join(c for c in apart if not unicodedata.combining(c))
