"""What the normaliser knows about each language."""

import re
from dataclasses import dataclass
from typing import Any

Forms = tuple[str, str, str]  # of a noun after 1, after 2, after 5


@dataclass(frozen=True)
class Language:
    """Letters, and how numbers and signs are written.

    Attributes:
        code: that of num2words.
        alphabet: what normal text consists of, the space first.
        number: one number as it is written, with its separators.
        ordinal: a number (group 1) and the ending (group 2) that makes it an ordinal.
        scale: a word for a power of 1000 between an amount and its currency.
        units: signs that stand before or after a number, as the words they are read as.
        coins: the hundredth of a unit, for amounts with two decimals.
        words: signs that are read as a word wherever they stand.
        minus: the word before a negative number.
    """

    code: str
    alphabet: str
    number: str
    ordinal: str
    scale: str
    units: dict[str, Forms]
    coins: dict[str, Forms]
    words: dict[str, str]
    minus: str

    @property
    def normal(self) -> re.Pattern:
        """Matches words of the alphabet with single spaces between them."""
        inside = self.alphabet[1:]
        letters = inside.replace("'", "")
        apostrophe = "'?" if inside != letters else ""
        word = f"{apostrophe}[{letters}][{inside}]*"
        return re.compile(f"{word}(?: {word})*")


LANGUAGES = {
    "en": Language(
        code="en",
        alphabet=" 'abcdefghijklmnopqrstuvwxyz",
        number=r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?",
        ordinal=r"\b([0-9]+)(st|nd|rd|th)\b",
        scale="thousand|million|billion|trillion",
        units={
            "$": ("dollar", "dollars", "dollars"),
            "€": ("euro", "euros", "euros"),
            "£": ("pound", "pounds", "pounds"),
            "%": ("percent", "percent", "percent"),
        },
        coins={
            "$": ("cent", "cents", "cents"),
            "€": ("cent", "cents", "cents"),
            "£": ("penny", "pence", "pence"),
        },
        words={"&": "and", "№": "number"},
        minus="minus",
    ),
    "ru": Language(
        code="ru",
        alphabet=" абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
        number=r"[0-9]+(?:[.,][0-9]+)?",
        ordinal=r"\b([0-9]+)-([а-я]{1,3})\b",
        scale="тысяч[аи]?|миллион(?:а|ов)?|миллиард(?:а|ов)?|триллион(?:а|ов)?",
        units={
            "₽": ("рубль", "рубля", "рублей"),
            "$": ("доллар", "доллара", "долларов"),
            "€": ("евро", "евро", "евро"),
            "%": ("процент", "процента", "процентов"),
        },
        coins={},
        words={"&": "и", "№": "номер"},
        minus="минус",
    ),
}

# Endings of written Russian ordinals, as num2words wants them.
RUSSIAN_ORDINALS: dict[tuple[str, ...], dict[str, Any]] = {
    ("й", "ый", "ой", "ий"): {},
    ("го", "ого", "его"): {"case": "g"},
    ("му", "ому", "ему"): {"case": "d"},
    ("ым", "им"): {"case": "i"},
    ("м", "ом", "ем"): {"case": "p"},
    ("я", "ая", "ья"): {"gender": "f"},
    ("ю", "ую", "ью"): {"gender": "f", "case": "a"},
    ("е", "ое", "ье"): {"gender": "n"},
    ("ые", "ие"): {"plural": True},
    ("х", "ых", "их"): {"plural": True, "case": "g"},
}
