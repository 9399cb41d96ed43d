"""Characters as tokens."""

from src.text_encoder.base import TextEncoder
from src.text_encoder.normalizer import Normalizer

BLANK = "_"
ALPHABETS = {
    "en": " 'abcdefghijklmnopqrstuvwxyz",
    "ru": " абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
}


class CharacterEncoder(TextEncoder):
    """One token a character.

    Args:
        alphabet: en, ru, or the characters themselves; the blank is added in front.
        language: whose rules normalise the text; None: that of the alphabet, else en.
    """

    def __init__(self, alphabet: str = "en", language: str | None = None):
        language = language or (alphabet if alphabet in ALPHABETS else "en")
        super().__init__(Normalizer(language))
        characters = ALPHABETS.get(alphabet, alphabet)
        if len(set(characters)) != len(characters):
            raise ValueError(f"text_encoder: a character stands twice in '{characters}'.")
        self.vocabulary = [BLANK, *characters]
        self.ids = {character: i for i, character in enumerate(self.vocabulary) if i > 0}

    def encode(self, text: str) -> list[int]:
        """Ids of the normalised text."""
        normal = self.normalize(text)
        try:
            return [self.ids[character] for character in normal]
        except KeyError as error:
            character = error.args[0]
            raise ValueError(
                f"'{text}': the character '{character}' is not in the vocabulary."
            ) from None

    def decode(self, ids: list[int]) -> str:
        """The text of ids without blanks."""
        return "".join(self.vocabulary[i] for i in ids)

    def describe(self) -> dict:
        """For JSON."""
        return {
            "kind": "characters",
            "alphabet": "".join(self.vocabulary[1:]),
            "language": self.normalizer.language,
        }
