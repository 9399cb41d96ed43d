"""Latin letters in Russian texts, in Cyrillic."""

import re
import unicodedata

WORD = re.compile(r"\w*[^\W\d_а-яё]\w*")  # with a letter of another alphabet
CYRILLIC = re.compile("[а-яё]")
# Latin letters that look like Cyrillic ones, typed in their place.
LOOKALIKES = str.maketrans("aceopxykmthb", "асеорхукмтнв")
GROUPS = {
    "shch": "щ",
    "sh": "ш",
    "ch": "ч",
    "zh": "ж",
    "kh": "х",
    "ph": "ф",
    "th": "т",
    "ts": "ц",
    "ck": "к",
    "qu": "кв",
    "oo": "у",
    "ee": "и",
    "ya": "я",
    "yu": "ю",
    "yo": "ё",
}
LETTERS = dict(zip("abcdefghiklmnopqrstuvyz", "абкдефгхиклмнопкрстувиз", strict=True))
LETTERS |= {"j": "дж", "w": "в", "x": "кс"}
PART = re.compile("|".join([*GROUPS, *LETTERS]))


def transliterate(text: str) -> str:
    """A lower-case Russian text with its Latin letters in Cyrillic.

    Words that also have Cyrillic letters get those that look the same, where all of theirs do;
    others are transliterated by letters, not by their pronunciation: `cказал` -> `сказал`,
    `show` -> `шов`. Letters of further alphabets stay as they are.
    """
    return WORD.sub(lambda match: word_in_cyrillic(match[0]), text)


def word_in_cyrillic(word: str) -> str:
    """A word with its Latin letters in Cyrillic."""
    word = "".join(c if CYRILLIC.match(c) else unaccented(c) for c in word)
    if CYRILLIC.search(word):
        alike = word.translate(LOOKALIKES)
        if not PART.search(alike):
            return alike
    return PART.sub(lambda match: GROUPS.get(match[0]) or LETTERS[match[0]], word)


def unaccented(letter: str) -> str:
    """A letter without its accents: é -> e."""
    return unicodedata.normalize("NFD", letter)[0]
