"""Subwords as tokens, by byte-pair encoding."""

import io
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from src.text_encoder.base import TextEncoder
from src.text_encoder.normalizer import Normalizer
from src.utils.files import write_beside

BLANK = "_"


class SubwordEncoder(TextEncoder):
    """Tokens of a sentencepiece model, moved up by one to make room for the blank.

    Args:
        model: file of the model, e.g. from scripts/train_subwords.py.
        language: whose rules normalise the text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no model.
    """

    def __init__(self, model: str | Path, language: str = "en"):
        super().__init__(Normalizer(language))
        path = Path(model)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such subword model.")
        self.proto = path.read_bytes()
        try:
            self.pieces = sentencepiece.SentencePieceProcessor(model_proto=self.proto)
        except RuntimeError:
            raise ValueError(f"{path}: not a sentencepiece model.") from None
        size = self.pieces.get_piece_size()
        self.vocabulary = [BLANK, *(self.pieces.id_to_piece(i) for i in range(size))]

    def encode(self, text: str) -> list[int]:
        """Ids of the normalised text."""
        ids = self.pieces.encode(self.normalize(text))
        if self.pieces.unk_id() in ids:
            raise ValueError(f"'{text}': has a character that the subword model does not know.")
        return [i + 1 for i in ids]

    def decode(self, ids: list[int]) -> str:
        """The text of ids without blanks."""
        return self.pieces.decode([i - 1 for i in ids])

    def describe(self) -> dict:
        """For JSON; the model itself is a file beside."""
        return {"kind": "subwords", "language": self.normalizer.language}

    def save(self, folder: Path) -> None:
        """Write the description and the model."""
        with write_beside(folder / "subwords.model") as path:
            path.write_bytes(self.proto)
        super().save(folder)


def train_subwords(texts: Iterable[str], size: int) -> bytes:
    """A byte-pair model of `size` pieces for normalised texts.

    Raises:
        ValueError: the texts are too few for so many pieces.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            model_type="bpe",
            character_coverage=1.0,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(f"no subword model of {size} pieces: {error}") from None
    return model.getvalue()
