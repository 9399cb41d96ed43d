"""Text to token ids and back."""

import json
from abc import ABC, abstractmethod
from pathlib import Path

from src.text_encoder.normalizer import Normalizer
from src.utils.files import write_beside

DESCRIPTION = "text_encoder.json"


class TextEncoder(ABC):
    """Normalises text and turns it into token ids; id 0 is CTC's blank.

    Attributes:
        vocabulary: the tokens by id.
    """

    vocabulary: list[str]

    def __init__(self, normalizer: Normalizer):
        self.normalizer = normalizer

    @property
    def n_tokens(self) -> int:
        """Size of the vocabulary, the blank included."""
        return len(self.vocabulary)

    def normalize(self, text: str) -> str:
        """The text as it will be learnt and scored."""
        return self.normalizer(text)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of the normalised text.

        Raises:
            ValueError: a character outside the vocabulary; names it and the text.
        """

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """The text of ids without blanks."""

    @abstractmethod
    def describe(self) -> dict:
        """What rebuilds the encoder, for JSON."""

    def save(self, folder: Path) -> None:
        """Write into `folder` what `load_text_encoder` reads."""
        with write_beside(folder / DESCRIPTION) as path:
            path.write_text(json.dumps(self.describe(), ensure_ascii=False) + "\n", "utf-8")


def load_text_encoder(folder: Path) -> TextEncoder:
    """Rebuild the encoder that was saved in a folder.

    Raises:
        ValueError: the file holds no encoder that we know.
    """
    from src.text_encoder.characters import CharacterEncoder
    from src.text_encoder.subwords import SubwordEncoder

    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text("utf-8"))
        kind = description.pop("kind")
    except (ValueError, KeyError):
        raise ValueError(f"{path}: holds no text encoder.") from None
    if kind == "characters":
        return CharacterEncoder(**description)
    if kind == "subwords":
        return SubwordEncoder(folder / "subwords.model", **description)
    raise ValueError(f"{path}: a text encoder of the unknown kind '{kind}'.")
