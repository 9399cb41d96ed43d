"""Phonemes as tokens, from the pronunciation of eSpeak NG."""

import re
from dataclasses import dataclass
from typing import Any

from src.text_encoder.base import TextEncoder
from src.text_encoder.normalizer import Normalizer
from src.utils.espeak import pronounce
from src.utils.options import check_choice, refuse

WORD_BOUNDARY = " "
MARKS = str.maketrans("", "", 'ˈˌː"^\u0329\u0303')  # of stress, length, syllables and nasals


@dataclass(frozen=True)
class Phonology:
    """The phonemes of a language.

    Attributes:
        voice: of eSpeak NG.
        inventory: the phonemes in the order of their token ids, with spaces between them.
        variants: other symbols of the voice, without marks -> phoneme; empty: none.
    """

    voice: str
    inventory: str
    variants: dict[str, str]

    @property
    def phonemes(self) -> list[str]:
        """The phonemes in the order of their token ids."""
        return self.inventory.split()


# 41 of American English: those of ARPAbet, and the flap of `water` and the schwa as their own.
ENGLISH = Phonology(
    "en-us",
    "p b t d k ɡ tʃ dʒ f v θ ð s z ʃ ʒ h m n ŋ l ɹ w j ɾ i ɪ ɛ æ ɑ ɔ ʊ u ʌ ə ɚ eɪ aɪ ɔɪ aʊ oʊ",
    {
        "ɐ": "ə",
        "ᵻ": "ɪ",
        "ɜ": "ɚ",
        "o": "oʊ",
        "ʔ": "t",
        "r": "ɹ",
        "x": "k",
        "ɬ": "l",
        "ʲ": "",
    },
)
# 43 of Russian: palatalised consonants, and the reduced vowels as their own.
RUSSIAN = Phonology(
    "ru",
    "p pʲ b bʲ t tʲ d dʲ k kʲ ɡ ɡʲ f fʲ v vʲ s sʲ z zʲ ʃ ʒ ɕ x ts tʃʲ m mʲ n nʲ l lʲ r rʲ j "
    "a ʌ e i ɪ o u y",
    {
        "ɑ": "a",
        "ɛ": "e",
        "ɔ": "ʌ",
        "ɵ": "o",
        "ɭʲ": "lʲ",
        "ɭ": "l",
        "ʑ": "zʲ",
        "dʒʲ": "tʃʲ",
        "ŋ": "n",
        "ʲ": "",
    },
)
PHONOLOGIES = {"en": ENGLISH, "ru": RUSSIAN}


class PhonemeEncoder(TextEncoder):
    """One token per phoneme, as eSpeak NG pronounces a text; stress and length are left out.

    A text is pronounced as a whole, so that words have the forms of connected speech. Its decoded
    form has spaces between phonemes and no word boundaries, so that `WER` of it is the phoneme
    error rate. eSpeak NG is only needed to encode, not to decode.

    Args:
        language: `en` or `ru`, whose phonemes and text normalisation are used.
        word_boundaries: whether a space is a token too, between words; decoded to nothing. Words
            that are said in one breath, such as `of the`, have none between them.
        normalizer: replaces the language's own.
        phonemes: the tokens of an encoder that was saved; None: those of the language.

    Raises:
        ValueError: the language is not known, or an option has no such value.
    """

    keeps_words = False  # phonemes are the words of decoded texts

    def __init__(
        self,
        language: str = "en",
        word_boundaries: bool = True,
        normalizer: Normalizer | None = None,
        phonemes: list[str] | None = None,
    ):
        check_choice("text_encoder, language", language, tuple(PHONOLOGIES))
        check_choice("text_encoder, word_boundaries", word_boundaries, (True, False))
        self.language, self.word_boundaries = language, word_boundaries
        own = PHONOLOGIES[language].phonemes if phonemes is None else check_tokens(phonemes)
        self.alphabet = Normalizer(language).alphabet
        super().__init__(
            [WORD_BOUNDARY] * word_boundaries + own, normalizer or Normalizer(language)
        )
        variants = PHONOLOGIES[language].variants
        self.variants = {symbol: own for symbol, own in variants.items() if symbol not in self.ids}
        longest_first = sorted([*self.ids, *self.variants], key=len, reverse=True)
        self.part = re.compile("|".join(map(re.escape, longest_first)))

    def normalize(self, text: str) -> str:
        """The phonemes of a text with single spaces between them, for scoring.

        Raises:
            ValueError: as of `encode`.
        """
        return self.decode(self.encode(text))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, which is normalised first.

        Raises:
            ValueError: the text has a character that the language hasn't, or a phoneme outside the
                vocabulary (names both), or eSpeak NG is missing.
        """
        normal = super().normalize(text)
        for character in normal:
            if character not in self.alphabet:
                raise self.unknown(character, text)
        ids: list[int] = []
        for word in pronounce(normal, PHONOLOGIES[self.language].voice):
            if ids and self.word_boundaries:
                ids.append(self.ids[WORD_BOUNDARY])
            for symbol in word:
                ids += self.split(symbol, text)
        return ids

    def split(self, symbol: str, text: str) -> list[int]:
        """Token ids of a symbol of eSpeak NG, which may stand for several phonemes, like `aɪɚ`.

        Raises:
            ValueError: a phoneme is outside the vocabulary; names it and the text.
        """
        plain = symbol.translate(MARKS)
        parts = self.part.findall(plain)
        phonemes = [self.variants.get(part, part) for part in parts]
        if "".join(parts) != plain or not self.ids.keys() >= {*filter(None, phonemes)}:
            raise ValueError(f"'{text}': the phoneme '{symbol}' is not in the vocabulary.")
        return [self.ids[phoneme] for phoneme in phonemes if phoneme]

    def decode(self, ids: list[int]) -> str:
        """Phonemes of token ids, with single spaces between them.

        Args:
            ids: repeated ids are repeated phonemes (they are not merged); blanks and word
                boundaries are ignored.
        """
        return " ".join(" ".join(self.vocabulary[i] for i in ids).split())

    def describe(self) -> dict[str, Any]:
        """A JSON-serialisable description: the kind and the arguments."""
        return {
            "kind": "phonemes",
            "language": self.language,
            "word_boundaries": self.word_boundaries,
            "phonemes": [phoneme for phoneme in self.ids if phoneme != WORD_BOUNDARY],
        }


def check_tokens(phonemes: Any) -> list[str]:
    """The phonemes of an encoder that was saved, if they are usable.

    Raises:
        ValueError: they are no list of different, non-empty texts.
    """
    texts = isinstance(phonemes, list) and all(isinstance(one, str) for one in phonemes)
    if not texts or not phonemes or len({*phonemes} - {"", WORD_BOUNDARY}) != len(phonemes):
        refuse("text_encoder, phonemes", phonemes, "a list of different phonemes")
    return phonemes
