"""Base class of text encoders: text to token ids and back."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from src.text_encoder.normalizer import Normalizer
from src.utils.files import read_bytes, write_beside
from src.utils.options import check_choice, shown

BLANK = ""  # token 0 of every vocabulary, CTC's blank; it decodes to nothing
WORD_START = "\u2581"  # stands for a space in subwords

DESCRIPTION = "text_encoder.json"
CHECKSUM = "sha256"
# Imported on demand, so that character models do not need sentencepiece.
KINDS = {
    "characters": ("src.text_encoder.characters", "CharacterEncoder"),
    "phonemes": ("src.text_encoder.phonemes", "PhonemeEncoder"),
    "subwords": ("src.text_encoder.subwords", "SubwordEncoder"),
}


class TextEncoder(ABC):
    """Normalises text and converts it to token ids; id 0 is CTC's blank.

    Args:
        vocabulary: tokens in the order of their ids, without the blank.
        normalizer: applied before encoding; None: texts are encoded as they are.

    Attributes:
        vocabulary: tokens in the order of their ids, the blank first.
        keeps_words: whether decoded texts have the words of the encoded ones.
    """

    keeps_words = True

    def __init__(self, vocabulary: list[str], normalizer: Normalizer | None):
        self.vocabulary = [BLANK, *vocabulary]
        self.ids = {token: i for i, token in enumerate(self.vocabulary) if i > 0}
        self.normalizer = normalizer

    def __len__(self) -> int:
        return len(self.vocabulary)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, including the blank."""
        return len(self.vocabulary)

    def normalize(self, text: str) -> str:
        """The normalised form of a text, used as training target and for scoring."""
        return self.normalizer(text) if self.normalizer else text

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a text, which is normalised first.

        Raises:
            ValueError: the text has a character outside the vocabulary; names both.
        """

    def frames_needed(self, texts: Sequence[str]) -> np.ndarray:
        """Fewest frames in which CTC can align each of some texts, [N].

        Raises:
            ValueError: a text has a character outside the vocabulary; names both.
        """
        return np.array([frames_needed(self.encode(text)) for text in texts], dtype=np.int32)

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, with single spaces between words.

        Args:
            ids: repeated ids are repeated tokens (they are not merged); blanks are ignored.
        """
        text = "".join(self.vocabulary[i] for i in ids)
        return " ".join(text.replace(WORD_START, " ").split())

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """A JSON-serialisable description with `kind` and the arguments of `load`."""

    def save(self, folder: Path) -> None:
        """Write the files from which `load_text_encoder` restores the encoder."""
        description = self.describe()
        description["normalizer"] = self.normalizer.describe() if self.normalizer else None
        description[CHECKSUM] = self.checksum(description)
        with write_beside(folder / DESCRIPTION) as path:
            path.write_text(json.dumps(description, ensure_ascii=False) + "\n", "utf-8")

    def checksum(self, description: dict[str, Any]) -> str:
        """SHA-256 of a description and of the tokens, to notice when a file of them is damaged."""
        text = json.dumps([description, self.vocabulary], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path, normalizer: Normalizer | None, **description) -> "TextEncoder":
        """Restore an encoder from its description and the files beside it in `folder`."""
        return cls(normalizer=normalizer, **description)  # type: ignore[call-arg]

    def unknown(self, character: str, text: str) -> ValueError:
        """The error for a character outside the vocabulary."""
        return ValueError(f"'{text}': the character '{character}' is not in the vocabulary.")


def frames_needed(ids: Sequence[int]) -> int:
    """Fewest frames in which CTC can align labels: one for each, and a blank between repeats."""
    return len(ids) + sum(a == b for a, b in zip(ids, ids[1:], strict=False))


def load_text_encoder(folder: Path) -> TextEncoder:
    """Restore the text encoder saved in a folder.

    Raises:
        FileNotFoundError: the folder has no text_encoder.json, or the subword model is missing.
        ValueError: a file is damaged; names it.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the folder holds no text encoder.")
    description = read_description(path)
    kind = description.pop("kind", None)
    check_choice(f"{path}, kind", kind, tuple(KINDS))
    module, name = KINDS[kind]
    try:
        stored = description.pop(CHECKSUM, None)
        own = description.pop("normalizer")
        normalizer = Normalizer(**own) if own else None
        encoder = getattr(import_module(module), name).load(folder, normalizer, **description)
        if encoder.checksum({"kind": kind, "normalizer": own, **description}) != stored:
            raise ValueError("the text encoder is damaged, its checksum differs.")
        return encoder
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: does not describe a text encoder ({error}).") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_description(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: the file holds something else; names it.
    """
    try:
        description = json.loads(read_bytes(path))
    except (ValueError, RecursionError):  # JSON or UTF-8
        raise ValueError(f"{path}: does not describe a text encoder (not JSON).") from None
    if not isinstance(description, dict):
        raise ValueError(
            f"{path}: does not describe a text encoder ({shown(description)}; a JSON object)."
        )
    return description
