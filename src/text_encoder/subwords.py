"""Subwords as tokens, by byte-pair encoding (Sennrich et al., arXiv 1508.07909)."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece

from src.text_encoder.base import WORD_START, TextEncoder
from src.text_encoder.normalizer import Normalizer
from src.utils.files import write_beside

MODEL_FILE = "subwords.model"
LONGEST = 100_000  # bytes of a text; sentencepiece skips longer ones


class SubwordEncoder(TextEncoder):
    """One token a piece of a sentencepiece model; its control and unknown pieces are left out.

    Args:
        model: file of the model, e.g. from scripts/train_subwords.py, or its bytes.
        normalizer: None: the English one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no model.
    """

    def __init__(self, model: str | Path | bytes, normalizer: Normalizer | None = None):
        self.proto = model if isinstance(model, bytes) else read_model(Path(model))
        self.model = sentencepiece.SentencePieceProcessor()
        try:
            self.model.LoadFromSerializedProto(self.proto)
        except RuntimeError:
            name = "the bytes given" if isinstance(model, bytes) else str(model)
            raise ValueError(f"{name}: not a sentencepiece model.") from None
        super().__init__(normal_pieces(self.model), normalizer or Normalizer("en"))

    def encode(self, text: str) -> list[int]:
        """Ids of the normalised text."""
        pieces = self.model.encode(self.normalize(text), out_type=str)
        try:
            return [self.ids[piece] for piece in pieces]
        except KeyError as error:
            raise self.unknown(error.args[0].replace(WORD_START, "")[:1], text) from None

    def describe(self) -> dict[str, Any]:
        """For JSON; the model itself is a file beside."""
        return {"kind": "subwords"}

    def save(self, folder: Path) -> None:
        """Write the model and the description."""
        with write_beside(folder / MODEL_FILE) as path:
            path.write_bytes(self.proto)
        super().save(folder)

    @classmethod
    def load(cls, folder: Path, normalizer: Normalizer | None, **_) -> "SubwordEncoder":
        """The encoder of a folder."""
        return cls(folder / MODEL_FILE, normalizer)


def read_model(path: Path) -> bytes:
    """The bytes of a model's file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such subword model.")
    return path.read_bytes()


def normal_pieces(model: sentencepiece.SentencePieceProcessor) -> list[str]:
    """The pieces that stand for text."""
    kinds = (model.is_unknown, model.is_control, model.is_unused, model.is_byte)
    ids = [i for i in range(model.get_piece_size()) if not any(kind(i) for kind in kinds)]
    return [model.id_to_piece(i) for i in ids]


def train_subwords(texts: Iterable[str], size: int) -> bytes:
    """A model that gives `SubwordEncoder` a vocabulary of `size` tokens, the blank included.

    Args:
        texts: normalised.
        size: at least the characters that occur, a sign for the start of a word, and the blank.

    Raises:
        ValueError: the size doesn't fit the texts; says why.
    """
    model = io.BytesIO()
    try:
        # The unknown piece that sentencepiece wants takes the place that the blank has with us.
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            model_type="bpe",
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            max_sentence_length=LONGEST,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        # After the place in the library's source, if it says anything at all.
        reason = str(error).strip().splitlines()[-1].partition("] ")[2] or "there are no texts."
        raise ValueError(f"no subword model of {size} tokens: {reason}") from None
    return model.getvalue()
