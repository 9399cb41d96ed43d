"""Characters as tokens."""

from typing import Any

from src.text_encoder.base import TextEncoder
from src.text_encoder.languages import LANGUAGES
from src.text_encoder.normalizer import Normalizer


class CharacterEncoder(TextEncoder):
    """One token a character.

    Args:
        alphabet: en, ru, or the characters themselves; the blank is added in front.
        normalizer: None: that of the language, or none for an alphabet of one's own.

    Raises:
        ValueError: the alphabet is empty, or a character stands in it twice.
    """

    def __init__(self, alphabet: str = "en", normalizer: Normalizer | None = None):
        if alphabet in LANGUAGES:
            normalizer = normalizer or Normalizer(alphabet)
            alphabet = normalizer.alphabet
        twice = sorted({c for c in alphabet if alphabet.count(c) > 1})
        if twice or not alphabet:
            problem = f"has '{twice[0]}' twice" if twice else "is empty"
            raise ValueError(f"text_encoder: the alphabet '{alphabet}' {problem}.")
        super().__init__(list(alphabet), normalizer)

    def encode(self, text: str) -> list[int]:
        """Ids of the normalised text."""
        ids = self.ids
        try:
            return [ids[character] for character in self.normalize(text)]
        except KeyError as error:
            raise self.unknown(error.args[0], text) from None

    def describe(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": "characters", "alphabet": "".join(self.vocabulary)}
