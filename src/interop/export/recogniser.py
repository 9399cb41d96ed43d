"""What clients of a recogniser read beside the network: tokens, config and metadata."""

from collections.abc import Mapping
from typing import Any

from src.text_encoder.base import WORD_START, TextEncoder
from src.transforms.chain import Chain
from src.transforms.features.log_mel import LogMel
from src.utils.windows import frame_stride

BLANK_SYMBOL = "<blk>"
BLANK_ID = 0
CLIENT_RATE = 16000  # Hz
FRAMES = 100  # of a spectrogram in a second, for the search of its stride


def symbols(text_encoder: TextEncoder) -> list[str]:
    """Tokens as sherpa-onnx and onnx-asr write them, in the order of their ids.

    Raises:
        ValueError: a token has white space in it, or stands there twice.
    """
    names = [token.replace(" ", WORD_START) for token in text_encoder.vocabulary]
    names[BLANK_ID] = BLANK_SYMBOL
    for token, name in zip(text_encoder.vocabulary, names, strict=True):
        if len(name.split()) != 1 or name.split()[0] != name or names.count(name) > 1:
            raise ValueError(
                f"vocabulary: the token {token!r} can't stand in tokens.txt; tokens without white "
                "space, each once."
            )
    return names


def tokens_text(names: list[str]) -> str:
    """The lines `symbol id` of tokens.txt and vocab.txt."""
    return "".join(f"{name} {number}\n" for number, name in enumerate(names))


def subsampling_factor(network: Any) -> int:
    """Input frames for one output frame of a model.

    Raises:
        ValueError: it isn't constant, or unknown.
    """
    factor = None
    if hasattr(network, "output_length"):
        factor = frame_stride(network.output_length, FRAMES)
    if factor is None:
        raise ValueError(f"model: {type(network).__name__} has no constant subsampling factor.")
    return factor


def describe(
    names: list[str],
    factor: int,
    bins: int,
    sample_rate: int,
    features: Mapping[str, Any],
    for_clients: bool,
) -> dict[str, Any]:
    """The content of config.json, of which onnx-asr reads the first three keys.

    Args:
        names: symbols of the tokens.
        factor: input frames for one output frame.
        bins: of the spectrogram.
        sample_rate: in Hz.
        features: arguments of the front end, for information.
        for_clients: whether the model takes spectrograms of clients, see `suits_clients`.
    """
    return {
        "model_type": "nemo-conformer-ctc",  # any CTC model on NeMo's features
        "features_size": bins,
        "subsampling_factor": factor,
        "task": "recognition",
        "sample_rate": sample_rate,
        "features": dict(features),
        "vocabulary": names,
        "blank_id": BLANK_ID,
        "takes_client_features": for_clients,
    }


def suits_clients(transforms: Chain, sample_rate: int) -> bool:
    """Whether the front end is like the one that clients have: log-mel spectrograms every 10 ms at
    16 kHz, with bins that are normalised one by one."""
    return any(
        isinstance(one, LogMel)
        and one.normalization == "per_feature"
        and (sample_rate, one.power.hop_length) == (CLIENT_RATE, 160)
        for one in transforms.values()
    )


def normalises(transforms: Chain) -> bool:
    """Whether transforms need statistics of the utterance, or aren't known not to."""
    return not all(
        isinstance(one, LogMel) and one.normalization == "none" for one in transforms.values()
    )


def fixed_scale(transforms: Chain) -> tuple[float, float] | None:
    """Fixed mean and deviation of log energies, which clients that compute these don't know.

    None where an utterance's own statistics are used, or the front end has no log-mel energies.
    """
    front = list(transforms.values())
    if len(front) != 1 or normalises(transforms):
        return None
    return front[0].fixed_mean, front[0].fixed_std  # type: ignore[return-value]


def metadata(names: list[str], factor: int, per_feature: bool) -> dict[str, str]:
    """Metadata of model.onnx, as those of NeMo's exports, which sherpa-onnx reads.

    Args:
        names: symbols of the tokens.
        factor: input frames for one output frame.
        per_feature: whether the input is normalised per bin.
    """
    return {
        "vocab_size": str(len(names)),
        "subsampling_factor": str(factor),
        "normalize_type": "per_feature" if per_feature else "",
    }
