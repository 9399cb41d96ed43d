"""Tokens of NVIDIA NeMo's recognisers: characters, or subwords with a SentencePiece model."""

import hashlib
from pathlib import Path
from typing import Any

from src.interop import nemo
from src.interop.archive import read_artifact
from src.text_encoder.base import TextEncoder
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.languages import LANGUAGES
from src.text_encoder.normalizer import Normalizer
from src.text_encoder.subwords import UNKNOWN, SubwordEncoder
from src.utils.options import shown

CHARACTERS = "nemo.collections.asr.models.ctc_models.EncDecCTCModel"
SUBWORDS = "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE"
UNUSED = "unused_pieces"  # key of what this repository writes: pieces whose class is never output


def read_tokens(
    config: dict[str, Any], labels: list[str], path: Path
) -> tuple[TextEncoder, list[int] | None]:
    """The text encoder of a file, and which classes of the head are its tokens.

    Args:
        config: of the model.
        labels: of the head's classes.
        path: of the file.

    Returns:
        The text encoder, and the classes, the blank first; None for all of them.

    Raises:
        ValueError: the tokenizer is missing, damaged, of another kind, or has another number of
            tokens than the head has classes.
    """
    number = len(labels)
    tokenizer = config.get("tokenizer")
    if not isinstance(tokenizer, dict):
        try:
            if any(len(label) != 1 for label in labels):
                raise ValueError("labels of several characters, but no tokenizer.")
            alphabet = "".join(labels)
            return CharacterEncoder(alphabet=alphabet, normalizer=normalizer_of(alphabet)), None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    kind = tokenizer.get("type")
    if kind != "bpe":
        raise ValueError(
            f"{path}: tokenizer.type: {shown(kind)} is not supported, only bpe (SentencePiece)."
        )
    name = str(tokenizer.get("model_path"))
    if not name.startswith("nemo:"):
        raise ValueError(f"{path}: tokenizer.model_path: {shown(name)} is not in the archive.")
    proto = read_artifact(path, name.removeprefix("nemo:"))
    encoder = nemo.apply_config(lambda _: SubwordEncoder(proto, all_pieces=True), config, path)
    if len(encoder) != number + 1:
        raise ValueError(
            f"{path}: the tokenizer has {len(encoder) - 1} pieces, the head {number} classes."
        )
    normalizer = normalizer_of("".join(piece for piece in encoder.vocabulary if piece != UNKNOWN))
    unused = config.get(UNUSED)
    if unused is None:
        encoder.normalizer = normalizer
        return encoder, None
    if not isinstance(unused, list):
        raise ValueError(f"{path}: {UNUSED}: {shown(unused)}; a list of numbers.")
    kept = [0, *(i + 1 for i in range(number) if i not in unused)]
    own = SubwordEncoder(proto, normalizer)
    if [encoder.vocabulary[i] for i in kept] != own.vocabulary:
        raise ValueError(f"{path}: {UNUSED}: {shown(unused)} are not those of the tokenizer.")
    return own, kept


def normalizer_of(characters: str) -> Normalizer | None:
    """The normalisation of a language all of whose texts consist of some characters.

    Args:
        characters: of a vocabulary.

    Returns:
        None if they are no letters of a language that is known, or include punctuation or upper
        case: texts are taken as they are.
    """
    used = set(characters.replace("\u2581", " ")) - {" "}
    for language, values in LANGUAGES.items():
        letters = set(values.alphabet) - {" ", "'"}
        if used and used <= set(values.alphabet) and letters - {"ё"} <= used:
            return Normalizer(language, fold_yo="ё" in letters - used)
    return None


def write_tokens(
    tokens: TextEncoder,
) -> tuple[list[str], dict[str, bytes], dict[str, Any]]:
    """Labels of a NeMo model, the artifacts of its tokenizer, and the sections for both.

    NeMo's class i is piece i of the tokenizer, also of pieces for which our model has no class:
    these are listed as `unused_pieces`.
    """
    if not isinstance(tokens, SubwordEncoder):
        labels = tokens.vocabulary[1:]
        return labels, {}, {"target": CHARACTERS, "labels": labels}
    every = SubwordEncoder(tokens.proto, all_pieces=True)
    labels = [every.model.id_to_piece(i) for i in range(len(every) - 1)]
    artifacts = {}
    for name, data in (
        ("tokenizer.model", tokens.proto),
        ("vocab.txt", "".join(f"{label}\n" for label in labels).encode()),
        ("tokenizer.vocab", "".join(f"{label}\t0\n" for label in labels).encode()),
    ):
        artifacts[f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}_{name}"] = data
    model, vocab, pieces = artifacts
    tokenizer = {
        "dir": None,
        "type": "bpe",
        "model_path": f"nemo:{model}",
        "vocab_path": f"nemo:{vocab}",
        "spe_tokenizer_vocab": f"nemo:{pieces}",
    }
    config: dict[str, Any] = {"target": SUBWORDS, "tokenizer": tokenizer}
    if not tokens.all_pieces:
        used = set(tokens.vocabulary)
        config[UNUSED] = [i for i, label in enumerate(labels) if label not in used]
    return labels, artifacts, config
