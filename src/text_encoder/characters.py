"""Characters as tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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

    def frames_needed(self, texts: Sequence[str]) -> np.ndarray:
        """Fewest frames in which CTC can align each of some texts, [N]; of all texts at once.

        Raises:
            ValueError: a text has a character outside the vocabulary; names both.
        """
        normalized = [self.normalize(text) for text in texts]
        joined = "".join(normalized)
        if not self.ids.keys() >= set(joined):
            return super().frames_needed(texts)  # names the text
        lengths = np.array([len(text) for text in normalized], dtype=np.int32)
        codes = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32)
        repeats = np.zeros(len(codes) + 1, dtype=np.int32)  # before each place
        repeats[2:] = np.cumsum(codes[1:] == codes[:-1], dtype=np.int32)
        ends = np.cumsum(lengths)
        # Of a text, those after its first character.
        return lengths + repeats[ends] - repeats[np.minimum(ends - lengths + 1, ends)]

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
