"""Numbers, amounts and ordinals in words."""

import re
from decimal import Decimal

from num2words import num2words

from src.text_encoder.languages import LANGUAGES, RUSSIAN_ORDINALS, Forms

MOST_DIGITS = 15  # longer numbers are codes, and are read digit by digit
YEARS = range(1100, 2100)
HAS_DIGIT = re.compile("[0-9]")


class NumberSpeller:
    """Writes the numbers of a text in words.

    Reads integers, decimals, negative numbers, ordinals, percentages and amounts of money. In
    English four digits from 1100 to 2099 are read as a year, and `1980s` as a decade. Numbers
    that start with 0 or have more than 15 digits are read digit by digit. Russian cardinals
    come in the nominative.

    Args:
        language: en or ru.
    """

    def __init__(self, language: str):
        self.language = LANGUAGES[language]
        number, scale = self.language.number, self.language.scale
        sign = "[" + re.escape("".join(self.language.units)) + "]"
        self.minus = re.compile(rf"(?<!\S)[-−](?={sign}?[0-9])")
        self.before = re.compile(rf"({sign})\s?({number})(?:\s?({scale})\b)?")
        self.after = re.compile(rf"({number})(?:\s?({scale}))?\s?({sign})")
        self.ordinal = re.compile(self.language.ordinal)
        self.decade = re.compile(r"\b([0-9]{1,3}0)s\b")
        self.number = re.compile(number)

    def __call__(self, text: str) -> str:
        """The text, in lower case, with its numbers in words; there may be spaces too many."""
        if not HAS_DIGIT.search(text):
            return text
        text = self.minus.sub(f" {self.language.minus} ", text)
        text = self.before.sub(lambda m: spaced(self.amount(m[2], m[3], m[1])), text)
        text = self.after.sub(lambda m: spaced(self.amount(m[1], m[2], m[3])), text)
        text = self.ordinal.sub(lambda m: spaced(self.read_ordinal(m[1], m[2])), text)
        if self.language.code == "en":
            text = self.decade.sub(lambda m: spaced(plural(self.cardinal(m[1], year=True))), text)
        return self.number.sub(lambda m: spaced(self.cardinal(m[0], year=True)), text)

    def cardinal(self, written: str, year: bool = False) -> str:
        """An integer or a decimal in words.

        Args:
            written: with separators as in the language.
            year: read an English year as one.
        """
        if self.language.code == "en":
            year = year and "," not in written
            written = written.replace(",", "")
        whole, _, decimals = written.replace(",", ".").partition(".")
        if decimals:
            return self.decimal(whole, decimals)
        if len(whole) > MOST_DIGITS or (whole[0] == "0" and whole != "0"):
            return self.digits(whole)
        as_year = year and self.language.code == "en" and int(whole) in YEARS
        return num2words(int(whole), lang=self.language.code, to="year" if as_year else "cardinal")

    def decimal(self, whole: str, decimals: str) -> str:
        """English says the digits after the point, Russian tenths, hundredths, ..."""
        if self.language.code == "en":
            return f"{self.cardinal(whole)} point {self.digits(decimals)}"
        if len(whole) > MOST_DIGITS or len(decimals) > 6:
            return f"{self.cardinal(whole)} запятая {self.digits(decimals)}"
        return num2words(Decimal(f"{whole}.{decimals}"), lang="ru")

    def digits(self, written: str) -> str:
        """One digit after the other."""
        return " ".join(num2words(int(digit), lang=self.language.code) for digit in written)

    def read_ordinal(self, written: str, ending: str) -> str:
        """The ordinal; a number and a word if the ending isn't one of an ordinal."""
        if len(written) > MOST_DIGITS:
            return f"{self.digits(written)} {ending}"
        if self.language.code == "en":
            return num2words(int(written), to="ordinal")
        for endings, form in RUSSIAN_ORDINALS.items():
            if ending in endings:
                return num2words(int(written), lang="ru", to="ordinal", **form)
        return f"{self.cardinal(written)} {ending}"

    def amount(self, written: str, scale: str | None, sign: str) -> str:
        """Money or a percentage: `5.50`, None, `$` gives five dollars and fifty cents."""
        unit = self.language.units[sign]
        if scale:
            return f"{self.cardinal(written)} {scale} {unit[2]}"
        whole, _, decimals = written.partition(".")
        if len(decimals) == 2 and sign in self.language.coins:
            parts = [(whole, unit), (decimals.lstrip("0"), self.language.coins[sign])]
            said = [self.count(n, forms) for n, forms in parts if n.strip("0")]
            return " and ".join(said) or self.count("0", unit)
        return self.count(written, unit)

    def count(self, written: str, forms: Forms) -> str:
        """A number with its unit in the form that goes with it."""
        return f"{self.cardinal(written)} {form_after(written, forms)}"


def form_after(written: str, forms: Forms) -> str:
    """The form of a noun after a number: 1 рубль, 2 рубля, 5 рублей, 1,5 рубля."""
    if not written.isdigit():
        return forms[1]
    russian = forms[1] != forms[2]
    last, teens = int(written[-1]), written[-2:-1] == "1"
    if not russian:
        return forms[0] if written == "1" else forms[1]
    if teens or last == 0 or last > 4:
        return forms[2]
    return forms[0] if last == 1 else forms[1]


def plural(words: str) -> str:
    """`nineteen eighty` -> `nineteen eighties`."""
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def spaced(words: str) -> str:
    """With a space on both sides."""
    return f" {words} "
