"""Language data of the text normaliser."""

import re
from dataclasses import dataclass
from typing import Any

Forms = tuple[str, str, str]  # of a noun after the numbers 1, 2 and 5


@dataclass(frozen=True)
class Language:
    """Alphabet of a language, and how it writes numbers and symbols.

    Attributes:
        code: language code of num2words.
        alphabet: characters of normalised text, the space first.
        number: regular expression of a number with its separators.
        ordinal: regular expression of an ordinal: digits (group 1) and ending (group 2).
        scale: regular expression of the words between an amount and its currency, like million.
        scales: forms of the words that abbreviations in `scale` stand for.
        feminine: scales after which 1 and 2 have another form.
        units: word forms of the symbols that precede or follow a number.
        coins: word forms of the hundredth of a unit, for amounts with two decimals.
        words: words of the symbols that are always read as a word.
        minus: the word before a negative number.
        halves: words of ½, ¼ and ¾ alone, and after a whole number.
    """

    code: str
    alphabet: str
    number: str
    ordinal: str
    scale: str
    scales: dict[str, Forms]
    feminine: tuple[str, ...]
    units: dict[str, Forms]
    coins: dict[str, Forms]
    words: dict[str, str]
    minus: str
    halves: dict[str, tuple[str, str]]

    @property
    def normal(self) -> re.Pattern:
        """Matches normalised text: words of the alphabet separated by single spaces."""
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
        ordinal=r"\b([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(st|nd|rd|th)\b",
        scale="thousand|million|billion|trillion",
        scales={},
        feminine=(),
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
        halves={
            "½": ("one half", "and a half"),
            "¼": ("one quarter", "and a quarter"),
            "¾": ("three quarters", "and three quarters"),
        },
    ),
    "ru": Language(
        code="ru",
        alphabet=" абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
        number=r"[0-9]+(?:[.,][0-9]+)?",
        ordinal=r"\b([0-9]+)-([а-я]{1,3})\b",
        scale="тысяч[аи]?|миллион(?:а|ов)?|миллиард(?:а|ов)?|триллион(?:а|ов)?|"
        r"(?:тыс|млн|млрд|трлн)\b\.?",
        scales={
            "тыс": ("тысяча", "тысячи", "тысяч"),
            "млн": ("миллион", "миллиона", "миллионов"),
            "млрд": ("миллиард", "миллиарда", "миллиардов"),
            "трлн": ("триллион", "триллиона", "триллионов"),
        },
        feminine=("тысяча", "тысячи", "тысяч"),
        units={
            "₽": ("рубль", "рубля", "рублей"),
            "$": ("доллар", "доллара", "долларов"),
            "€": ("евро", "евро", "евро"),
            "%": ("процент", "процента", "процентов"),
        },
        coins={},
        words={"&": "и", "№": "номер"},
        minus="минус",
        halves={
            "½": ("половина", "с половиной"),
            "¼": ("четверть", "с четвертью"),
            "¾": ("три четверти", "и три четверти"),
        },
    ),
}

# Endings of Russian ordinals in digits, and the corresponding arguments of num2words.
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
