"""Text to token ids and back."""

import json
from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any

from src.text_encoder.normalizer import Normalizer
from src.utils.files import write_beside

BLANK = ""  # stands at index 0 of every vocabulary, and writes nothing
WORD_START = "\u2581"  # in a subword: a space

DESCRIPTION = "text_encoder.json"
# Imported when needed: one who works with characters needs no sentencepiece.
KINDS = {
    "characters": ("src.text_encoder.characters", "CharacterEncoder"),
    "subwords": ("src.text_encoder.subwords", "SubwordEncoder"),
}


class TextEncoder(ABC):
    """Normalises text and turns it into token ids; id 0 is CTC's blank.

    Args:
        vocabulary: the tokens by id, without the blank.
        normalizer: None leaves texts as they are.

    Attributes:
        vocabulary: the tokens by id, the blank first.
    """

    def __init__(self, vocabulary: list[str], normalizer: Normalizer | None):
        self.vocabulary = [BLANK, *vocabulary]
        self.ids = {token: i for i, token in enumerate(self.vocabulary) if i > 0}
        self.normalizer = normalizer

    def __len__(self) -> int:
        return len(self.vocabulary)

    @property
    def n_tokens(self) -> int:
        """Size of the vocabulary, the blank included."""
        return len(self.vocabulary)

    def normalize(self, text: str) -> str:
        """The text as it is learnt and scored."""
        return self.normalizer(text) if self.normalizer else text

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of the normalised text.

        Raises:
            ValueError: a character outside the vocabulary; names it and the text.
        """

    def decode(self, ids: list[int]) -> str:
        """The text of ids, with single spaces between words.

        Args:
            ids: as they come; repeats are repeats, and blanks write nothing.
        """
        text = "".join(self.vocabulary[i] for i in ids)
        return " ".join(text.replace(WORD_START, " ").split())

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What rebuilds the encoder, for JSON."""

    def save(self, folder: Path) -> None:
        """Write into `folder` what `load_text_encoder` reads."""
        description = self.describe()
        description["normalizer"] = self.normalizer.describe() if self.normalizer else None
        with write_beside(folder / DESCRIPTION) as path:
            path.write_text(json.dumps(description, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path, normalizer: Normalizer | None, **description) -> "TextEncoder":
        """The encoder of a description and the files beside it."""
        return cls(normalizer=normalizer, **description)  # type: ignore[call-arg]

    def unknown(self, character: str, text: str) -> ValueError:
        """The error for a character outside the vocabulary."""
        return ValueError(f"'{text}': the character '{character}' is not in the vocabulary.")


def load_text_encoder(folder: Path) -> TextEncoder:
    """Rebuild the encoder that was saved in a folder.

    Raises:
        FileNotFoundError: the folder holds no encoder.
        ValueError: its description doesn't describe one.
    """
    path = folder / DESCRIPTION
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; the folder holds no text encoder.")
    try:
        description = json.loads(path.read_text("utf-8"))
        module, name = KINDS[description.pop("kind")]
        normalizer = description.pop("normalizer")
        normalizer = Normalizer(**normalizer) if normalizer else None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ValueError(f"{path}: does not describe a text encoder.") from None
    return getattr(import_module(module), name).load(folder, normalizer, **description)
