"""Characters as tokens."""

from pathlib import Path
from typing import Any

from src.text_encoder.base import TextEncoder
from src.text_encoder.normalizer import Normalizer


class CharacterEncoder(TextEncoder):
    """One token per character.

    Args:
        language: `en` or `ru`, whose alphabet and text normalisation are used; None: `en`, unless
            there is an alphabet.
        normalizer: replaces the language's own; its alphabet is used.
        alphabet: instead of a language: the characters themselves, without the blank. Texts are
            not normalised unless a normalizer is given.

    Raises:
        ValueError: the language is not known, the alphabet is empty or has a character twice, or
            both are given.
    """

    def __init__(
        self,
        language: str | None = None,
        normalizer: Normalizer | None = None,
        alphabet: str | None = None,
    ):
        if language is not None and alphabet is not None:
            raise ValueError(
                f"text_encoder: language {language!r} and alphabet {alphabet!r}; only one of them."
            )
        if alphabet is None:
            own = Normalizer("en" if language is None else language)
            normalizer = normalizer or own
            alphabet = normalizer.alphabet
        super().__init__(list(check_alphabet(alphabet)), normalizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, which is normalised first.

        Raises:
            ValueError: the text has a character outside the vocabulary; names both.
        """
        ids = self.ids
        try:
            return [ids[character] for character in self.normalize(text)]
        except KeyError as error:
            raise self.unknown(error.args[0], text) from None

    def describe(self) -> dict[str, Any]:
        """A JSON-serialisable description: the kind and the alphabet."""
        return {"kind": "characters", "alphabet": "".join(self.vocabulary)}

    @classmethod
    def load(  # type: ignore[override]
        cls, folder: Path, normalizer: Normalizer | None, alphabet: str
    ) -> "CharacterEncoder":
        """Restore an encoder from its description; it has no further files in `folder`."""
        return cls(normalizer=normalizer, alphabet=alphabet)


def check_alphabet(alphabet: Any) -> str:
    """The alphabet, if it is usable.

    Raises:
        ValueError: it is not text, is empty, or has a character twice.
    """
    if not isinstance(alphabet, str) or not alphabet:
        raise ValueError(f"text_encoder, alphabet: {alphabet!r}; text with at least one character.")
    for i, character in enumerate(alphabet):
        if character in alphabet[:i]:
            raise ValueError(
                f"text_encoder, alphabet: {alphabet!r} has '{character}' twice; only once each."
            )
    return alphabet
