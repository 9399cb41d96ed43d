"""Numbers, amounts of money and ordinals in words."""

import re
from decimal import Decimal

from num2words import num2words

from src.text_encoder.languages import LANGUAGES, RUSSIAN_ORDINALS, Forms

MAX_DIGITS = 15  # longer numbers are read digit by digit
YEARS = range(1100, 2100)
HAS_DIGIT = re.compile("[0-9]")
POINT_FIRST = re.compile(r"([$€£₽]\s?)(?=\.[0-9])")
MINUS_INSIDE = re.compile(r"(?<![0-9])([$€£₽])([-−])(?=[0-9])")
# Digits in groups of three with plain spaces, where no digits follow or precede, as in telephones.
SPACED_GROUPS = re.compile(r"(?<![0-9,.])(?<![0-9] )[1-9][0-9]{0,2}(?: [0-9]{3})+(?! ?[0-9])")


class NumberSpeller:
    """Spells out the numbers of a text.

    Handles integers, decimals, negative numbers, ordinals, percentages and amounts of money. In
    English, four digits from 1100 to 2099 are read as a year, and `1980s` as a decade. Numbers
    that start with 0 or have more than 15 digits are read digit by digit. Russian cardinals are
    in the nominative case; their digits may be in groups of three with spaces between.

    Args:
        language: `en` or `ru`.
    """

    def __init__(self, language: str):
        self.language = LANGUAGES[language]
        number, scale = self.language.number, self.language.scale
        sign = "[" + re.escape("".join(self.language.units)) + "]"
        self.minus = re.compile(rf"(?<![^\s(\[{{\"«“„])[-−](?={sign}?[0-9])")
        # The percent sign, and a sign right after a number, belong to what is before them.
        self.before = re.compile(rf"(?<![0-9])(?!%)({sign})\s?({number})(?:\s?({scale})\b)?")
        self.after = re.compile(rf"({number})(?:\s?({scale}))?\s?({sign})")
        self.scaled = re.compile(rf"({number})\s?({scale})(?!\w)")
        self.ordinal = re.compile(self.language.ordinal)
        # With an apostrophe only years are: room 310's door.
        self.decade = re.compile(
            r"\b(?:([0-9]{1,3}(?:,[0-9]{3})*,[0-9]{2}0|[0-9]{1,3}0)s"
            r"|(1[1-9][0-9]0|20[0-9]0|[2-9]0)'s)\b"
        )
        self.number = re.compile(rf"({number})('s\b)?")

    def __call__(self, text: str) -> str:
        """A lower-case text with its numbers spelt out; may contain repeated spaces."""
        if not HAS_DIGIT.search(text):
            return text
        text = MINUS_INSIDE.sub(r"\2\1", POINT_FIRST.sub(r"\g<1>0", text))
        if self.language.code == "ru":
            text = SPACED_GROUPS.sub(lambda m: m[0].replace(" ", ""), text)
        text = self.minus.sub(f" {self.language.minus} ", text)
        text = self.before.sub(lambda m: spaced(self.amount(m[2], m[3], m[1])), text)
        text = self.after.sub(lambda m: spaced(self.amount(m[1], m[2], m[3])), text)
        text = self.scaled.sub(lambda m: spaced(self.in_scale(m[1], m[2])), text)
        text = self.ordinal.sub(lambda m: spaced(self.read_ordinal(m[1], m[2])), text)
        if self.language.code == "en":
            text = self.decade.sub(
                lambda m: spaced(plural(self.cardinal(m[1] or m[2], year=True))), text
            )
        return self.number.sub(
            lambda m: spaced(self.cardinal(m[1], year=True) + (m[2] or "")), text
        )

    def cardinal(self, written: str, year: bool = False) -> str:
        """An integer or decimal number in words.

        Args:
            written: digits with the separators of the language.
            year: read English numbers from 1100 to 2099 as years.
        """
        if self.language.code == "en":
            year = year and "," not in written
            written = written.replace(",", "")
        whole, _, decimals = written.replace(",", ".").partition(".")
        if decimals:
            return self.decimal(whole, decimals)
        if len(whole) > MAX_DIGITS or (whole[0] == "0" and whole != "0"):
            return self.digits(whole)
        as_year = year and self.language.code == "en" and int(whole) in YEARS
        return num2words(int(whole), lang=self.language.code, to="year" if as_year else "cardinal")

    def decimal(self, whole: str, decimals: str) -> str:
        """A decimal number in words: digits after the point in English, a fraction in Russian."""
        if self.language.code == "en":
            return f"{self.cardinal(whole)} point {self.digits(decimals)}"
        if len(whole) > MAX_DIGITS or len(decimals) > 6:
            return f"{self.cardinal(whole)} запятая {self.digits(decimals)}"
        return num2words(Decimal(f"{whole}.{decimals}"), lang="ru")

    def digits(self, written: str) -> str:
        """A number read digit by digit."""
        return " ".join(num2words(int(digit), lang=self.language.code) for digit in written)

    def read_ordinal(self, written: str, ending: str) -> str:
        """An ordinal in words; cardinal and ending separately if the ending is no ordinal's."""
        written = written.replace(",", "")
        if len(written) > MAX_DIGITS:
            return f"{self.digits(written)} {ending}"
        if self.language.code == "en":
            return num2words(int(written), to="ordinal")
        for endings, form in RUSSIAN_ORDINALS.items():
            if ending in endings:
                return num2words(int(written), lang="ru", to="ordinal", **form)
        return f"{self.cardinal(written)} {ending}"

    def amount(self, written: str, scale: str | None, sign: str) -> str:
        """Money or a percentage in words: `5.50`, None, `$` -> five dollars and fifty cents."""
        unit = self.language.units[sign]
        if scale:
            return f"{self.in_scale(written, scale)} {unit[2]}"
        whole, _, decimals = written.partition(".")
        if len(decimals) == 2 and sign in self.language.coins:
            parts = [(whole, unit), (decimals.lstrip("0"), self.language.coins[sign])]
            said = [self.count(n, forms) for n, forms in parts if n.strip("0")]
            return " and ".join(said) or self.count("0", unit)
        return self.count(written, unit)

    def in_scale(self, written: str, scale: str) -> str:
        """A number and its scale in words: `2,5`, `млн.` -> две целых пять десятых миллиона."""
        forms = self.language.scales.get(scale.rstrip("."))
        word = form_after(written, forms) if forms else scale
        if word in self.language.feminine and written.isdigit() and len(written) <= MAX_DIGITS:
            return f"{num2words(int(written), lang=self.language.code, gender='f')} {word}"
        return f"{self.cardinal(written)} {word}"

    def count(self, written: str, forms: Forms) -> str:
        """A number in words with its unit in the matching grammatical form."""
        return f"{self.cardinal(written)} {form_after(written, forms)}"


def form_after(written: str, forms: Forms) -> str:
    """The grammatical form of a noun after a number: 1 рубль, 2 рубля, 5 рублей, 1,5 рубля."""
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
    """Plural of a number in words: `nineteen eighty` -> `nineteen eighties`."""
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def spaced(words: str) -> str:
    """The words with a space on both sides."""
    return f" {words} "
