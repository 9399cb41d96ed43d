"""Subwords as tokens: byte-pair encoding (Sennrich et al., arXiv 1508.07909)."""

import io
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import sentencepiece

from src.text_encoder.base import WORD_START, TextEncoder
from src.text_encoder.normalizer import Normalizer
from src.utils.files import write_beside

MODEL_FILE = "subwords.model"
UNKNOWN = f"{WORD_START}\u2047{WORD_START}"  # what sentencepiece, too, decodes the unknown piece to
MAX_BYTES = 100_000  # of a training text; sentencepiece ignores longer ones


class SubwordEncoder(TextEncoder):
    """One token per piece of a sentencepiece model, except its control and unknown pieces.

    Args:
        model: file of a sentencepiece model, e.g. from scripts/train_subwords.py, or its bytes.
        normalizer: applied before encoding; None: English normalisation, and none with
            `all_pieces`.
        all_pieces: token i + 1 is piece i, whatever it stands for, as in models of NVIDIA NeMo.
            The unknown piece decodes to ⁇, and no text is encoded to it; pieces that stand for
            bytes decode to the characters that these are in UTF-8.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a sentencepiece model, or is damaged.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        normalizer: Normalizer | None = None,
        all_pieces: bool = False,
    ):
        if not isinstance(model, str | Path | bytes):
            raise ValueError(f"text_encoder, model: {model!r}; the file of a sentencepiece model.")
        self.proto = model if isinstance(model, bytes) else read_model(Path(model))
        name = "subword model" if isinstance(model, bytes) else str(model)
        self.model = parse_model(self.proto, name)
        self.all_pieces = all_pieces
        if all_pieces:
            super().__init__(every_piece(self.model, name), normalizer)
            self.bytes = {i + 1: byte for i, byte in byte_pieces(self.model).items()}
        else:
            super().__init__(text_pieces(self.model, name), normalizer or Normalizer("en"))
            self.bytes = {}

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, which is normalised first.

        Raises:
            ValueError: the text has a character outside the vocabulary; names both.
        """
        normal = self.normalize(text)
        pieces = self.model.encode(normal, out_type=str)
        try:
            return [self.ids[piece] for piece in pieces]
        except KeyError:
            raise self.unknown(self.first_outside(normal), text) from None

    def first_outside(self, text: str) -> str:
        """The first character outside the vocabulary of a text that has one.

        Its piece may be another character, or the first byte of several.
        """
        prefixes = (text[: i + 1] for i in range(len(text)))
        outside = (
            prefix[-1]
            for prefix in prefixes
            if not self.ids.keys() >= set(self.model.encode(prefix, out_type=str))
        )
        return next(outside)

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, with single spaces between words.

        Args:
            ids: repeated ids are repeated tokens (they are not merged); blanks are ignored. Bytes
                that are no UTF-8 become the replacement character.
        """
        if not self.bytes:
            return super().decode(ids)
        text = ""
        for is_byte, run in groupby((i for i in ids if i), key=self.bytes.__contains__):
            if is_byte:
                text += bytes(self.bytes[i] for i in run).decode("utf-8", errors="replace")
            else:
                text += "".join(self.vocabulary[i] for i in run)
        return " ".join(text.replace(WORD_START, " ").split())

    def describe(self) -> dict[str, Any]:
        """A JSON-serialisable description; the model is saved in a separate file."""
        return {"kind": "subwords", "all_pieces": self.all_pieces}

    def save(self, folder: Path) -> None:
        """Write the files from which `load_text_encoder` restores the encoder."""
        with write_beside(folder / MODEL_FILE) as path:
            path.write_bytes(self.proto)
        super().save(folder)

    @classmethod
    def load(  # type: ignore[override]
        cls, folder: Path, normalizer: Normalizer | None, all_pieces: bool = False
    ) -> "SubwordEncoder":
        """Restore an encoder from the sentencepiece model in `folder`."""
        return cls(folder / MODEL_FILE, normalizer, all_pieces)


def read_model(path: Path) -> bytes:
    """The bytes of a model file.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such subword model.")
    return path.read_bytes()


def parse_model(proto: bytes, name: str) -> sentencepiece.SentencePieceProcessor:
    """A sentencepiece model from its serialised form.

    Raises:
        ValueError: the bytes are not a sentencepiece model; names it.
    """
    model = sentencepiece.SentencePieceProcessor()
    try:
        if proto and model.LoadFromSerializedProto(proto):
            return model
    except RuntimeError:
        pass
    raise ValueError(f"{name}: not a sentencepiece model, or damaged ({len(proto)} bytes).")


def every_piece(model: sentencepiece.SentencePieceProcessor, name: str) -> list[str]:
    """The pieces of a model in their order; the unknown one as a word of its own, ⁇.

    Raises:
        ValueError: one is not valid UTF-8; names the model.
    """
    try:
        pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    except UnicodeDecodeError:
        raise ValueError(f"{name}: a sentencepiece model that is damaged.") from None
    return [UNKNOWN if model.is_unknown(i) else piece for i, piece in enumerate(pieces)]


def byte_pieces(model: sentencepiece.SentencePieceProcessor) -> dict[int, int]:
    """The bytes that pieces of a model stand for, like `<0xC3>`, by number of the piece."""
    numbers = filter(model.is_byte, range(model.get_piece_size()))
    return {i: int(model.id_to_piece(i)[1:-1], 16) for i in numbers}


def text_pieces(model: sentencepiece.SentencePieceProcessor, name: str) -> list[str]:
    """The pieces of a model that stand for text.

    Raises:
        ValueError: there are none, or one is not valid UTF-8; names the model.
    """
    kinds = (model.is_unknown, model.is_control, model.is_unused, model.is_byte)
    ids = [i for i in range(model.get_piece_size()) if not any(kind(i) for kind in kinds)]
    try:
        pieces = [model.id_to_piece(i) for i in ids]
    except UnicodeDecodeError:
        pieces = []
    if not pieces:
        raise ValueError(f"{name}: a sentencepiece model without text, or damaged.")
    return pieces


def train_subwords(texts: Iterable[str], size: int) -> bytes:
    """Train a sentencepiece model (byte-pair encoding).

    Args:
        texts: normalised texts.
        size: vocabulary size of the resulting `SubwordEncoder`, including the blank; at least
            the number of different characters plus 2.

    Returns:
        The serialised model.

    Raises:
        ValueError: the size does not suit the texts; gives the reason.
        Exception: that of `texts`, if they raise one.
    """
    model = io.BytesIO()
    errors: list[Exception] = []
    try:
        # sentencepiece requires an unknown piece; it takes id 0, which is our blank.
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=watched(texts, errors),
            model_writer=model,
            vocab_size=size,
            model_type="bpe",
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            max_sentence_length=MAX_BYTES,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        if errors:
            raise errors[0] from None
        # The library's message follows the source location in brackets; it may be missing.
        reason = str(error).strip().splitlines()[-1].partition("] ")[2] or "there are no texts."
        raise ValueError(f"no subword model of {size} tokens: {reason}") from None
    return model.getvalue()


def watched(texts: Iterable[str], errors: list[Exception]) -> Iterator[str]:
    """The texts; an error that they raise is put in `errors`, as sentencepiece changes its type."""
    try:
        yield from texts
    except Exception as error:
        errors.append(error)
        raise
