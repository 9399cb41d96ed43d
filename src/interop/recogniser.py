"""NVIDIA NeMo's CTC recognisers, read without NeMo.

Read are EncDecCTCModel and EncDecCTCModelBPE with a ConformerEncoder or a ConvASREncoder (Jasper,
QuartzNet, Citrinet), and the CTC branch of EncDecHybridRNNTCTCModel and ...BPEModel.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.interop import nemo, nemo_config, nemo_convolutional
from src.interop.archive import read_archive, read_model_config
from src.interop.naming import check_fit
from src.interop.nemo_adapters import read_adapters
from src.interop.nemo_sections import check_fixed, check_known, class_of, section_of
from src.interop.nemo_tokens import read_tokens
from src.models.conformer import ConformerEncoder
from src.models.encoder_ctc import EncoderCTC
from src.models.jasper import ConvEncoder
from src.text_encoder.base import TextEncoder
from src.transforms.features.log_mel import LogMel
from src.transforms.spectrogram.spec_augment import SpecAugment
from src.utils.annotations import check_arguments
from src.utils.modules import dotted_name
from src.utils.options import shown

CTC = ("EncDecCTCModel", "EncDecCTCModelBPE")
HYBRID = ("EncDecHybridRNNTCTCModel", "EncDecHybridRNNTCTCBPEModel")
HEAD = "decoder.decoder_layers.0."
HYBRID_HEAD = "ctc_decoder.decoder_layers.0."
TRANSDUCER = ("decoder.", "joint.", "loss.")  # beside a hybrid's CTC head
# Encoders: NeMo's class and ours.
ENCODERS: dict[str, type[nn.Module]] = {
    "ConformerEncoder": ConformerEncoder,
    "ConformerEncoderAdapter": ConformerEncoder,
    "ConvASREncoder": ConvEncoder,
}
DECODER = {"_target_", "feat_in", "num_classes", "vocabulary", "init_mode"}
DECODER_FIXED = {"add_blank": True, "activation": None}


@dataclass(frozen=True)
class Recogniser:
    """What a .nemo file of a recogniser holds, under our names.

    Both configs consist of plain values, apart from their own `_target_`.

    Attributes:
        model: config of the model, with `_target_` and without `vocab_size`.
        features: config of the front end.
        weights: state dict of the model; the blank is the first class.
        text_encoder: the tokens.
        spec_augment: NeMo's section on it, as it is; None if the file has none.
    """

    model: dict[str, Any]
    features: dict[str, Any]
    weights: dict[str, Tensor]
    text_encoder: TextEncoder
    spec_augment: Any

    @property
    def sample_rate(self) -> int:
        """Of the audio, in Hz."""
        return self.features["sample_rate"]


def is_recogniser(path: Path) -> bool:
    """Whether a .nemo file is of a recogniser rather than of a pretrained encoder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, refused, or of a model of another kind.
    """
    config = read_model_config(path)
    kind = str(config.get("target")).rpartition(".")[2]
    if kind not in (*CTC, *HYBRID, *nemo.MODELS):
        raise ValueError(
            f"{path}: {config.get('target')} has no CTC head; only "
            f"{', '.join((*CTC, *HYBRID, *nemo.MODELS))} can be read."
        )
    return kind not in nemo.MODELS


def read_recogniser(path: str | Path) -> Recogniser:
    """Read a recogniser from a .nemo file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, refused, or of a model of another kind; a parameter of encoder,
            decoder or front end is unknown; the tokenizer is missing, damaged, of another kind or
            of another size than the head; or a weight doesn't fit.
    """
    path = Path(path)
    config, weights = read_archive(path)
    try:
        return parse_recogniser(config, weights, path)
    except (OSError, ValueError):
        raise
    except Exception as error:  # of any kind, since a file may hold anything anywhere
        raise ValueError(f"{path}: not readable as a recogniser ({error!r}).") from None


def parse_recogniser(config: dict[str, Any], weights: dict[str, Tensor], path: Path) -> Recogniser:
    """A recogniser from its config and weights, by NeMo's names."""
    kind = str(config.get("target")).rpartition(".")[2]
    if kind not in (*CTC, *HYBRID):
        raise ValueError(
            f"{path}: {config.get('target')} is no recogniser with a CTC head; only "
            f"{', '.join((*CTC, *HYBRID))} can be read."
        )
    target = nemo.apply_config(encoder_class, config, path)
    options = nemo.apply_config(lambda c: read_encoder(c, target, len(weights)), config, path)
    features = nemo.apply_config(nemo_config.read_features, config, path)
    check_front_end(features, weights, path)
    hybrid = kind in HYBRID
    labels = nemo.apply_config(lambda c: read_labels(c, hybrid), config, path)
    weights = our_weights(weights, hybrid)
    text_encoder, kept = read_tokens(config, labels, path)
    with torch.device("meta"):  # takes neither time nor random numbers
        network: Any = nemo.apply_config(
            lambda _: build_model(target, options, len(labels) + 1), config, path
        )
    if isinstance(network.encoder, ConvEncoder):
        weights = nemo_convolutional.our_names(network.encoder, weights)
    check_fit(network, weights, path)
    if kept is not None:
        weights = {k: v[kept] if k.startswith("head.") else v for k, v in weights.items()}
    return Recogniser(
        {
            "_target_": dotted_name(EncoderCTC),
            "encoder": {"_target_": dotted_name(ENCODERS[target]), **options},
        },
        {"_target_": dotted_name(LogMel), **features},
        weights,
        text_encoder,
        config.get("spec_augment"),
    )


# The network -------------------------------------------------------------------------------


def encoder_class(config: dict[str, Any]) -> str:
    """Name of the class of the encoder, a key of `ENCODERS`.

    Raises:
        ValueError: it is another class.
    """
    target = class_of(section_of(config, "encoder"))
    if target not in ENCODERS:
        raise ValueError(f"encoder: a {target}, only {', '.join(ENCODERS)} are supported.")
    return target


def read_encoder(config: dict[str, Any], target: str, most: int) -> dict[str, Any]:
    """Arguments of our encoder from a NeMo config.

    Args:
        config: of a model.
        target: class of the encoder.
        most: number of weights in the file; a layer has at least one.

    Raises:
        KeyError: a parameter is missing.
        ValueError: a parameter is unknown or has a value that is not supported.
    """
    if target == "ConvASREncoder":
        options = nemo_convolutional.read_encoder(config)
        layers = sum(block.get("repeat", 1) for block in options["blocks"])
    else:
        options = nemo_config.read_encoder(config)
        adapters = read_adapters(config.get("adapters"))
        options |= {"adapters": adapters} if adapters else {}
        layers = options["num_layers"]
    if layers > most:
        raise ValueError(f"encoder: {layers} layers, but only {most} weights in the file.")
    return options


def build_model(target: str, options: dict[str, Any], vocab_size: int) -> nn.Module:
    """A recogniser with random weights.

    Args:
        target: key of `ENCODERS`.
        options: arguments of the encoder.
        vocab_size: number of classes, including the blank.
    """
    Encoder = ENCODERS[target]
    check_arguments("encoder", Encoder, options)
    return EncoderCTC(Encoder(**options), vocab_size)  # type: ignore[arg-type]


def our_weights(weights: dict[str, Tensor], hybrid: bool) -> dict[str, Tensor]:
    """Weights with our names of Conformers and heads, the blank first, without the front end."""
    weights = {k: v for k, v in weights.items() if not k.startswith("preprocessor.")}
    if hybrid:
        weights = {k: v for k, v in weights.items() if not k.startswith(TRANSDUCER)}
        weights = {k.replace(HYBRID_HEAD, HEAD, 1): v for k, v in weights.items()}
    weights = nemo.from_nemo(weights)  # with the head as `decoder`
    names = {f"decoder.{part}": f"head.{part}" for part in ("weight", "bias")}
    return {
        names.get(k, k): v.roll(1, 0) if k in names and v.dim() else v for k, v in weights.items()
    }


def check_front_end(features: dict[str, Any], weights: dict[str, Tensor], path: Path) -> None:
    """Check that window and mel filters of a file are those of the front end of its config.

    Raises:
        ValueError: they aren't.
    """
    own = nemo.apply_config(lambda _: LogMel(**features), {}, path)
    for name, buffer in ((nemo.WINDOW, own.power.window), (nemo.BANDS, own.filterbank)):
        if name not in weights:
            continue
        theirs = weights[name].squeeze().float()
        if theirs.shape != buffer.shape or not torch.allclose(theirs, buffer, atol=1e-4):
            raise ValueError(f"{path}: {name} differs from that of its config.")


def read_labels(config: dict[str, Any], hybrid: bool) -> list[str]:
    """The tokens of the CTC head, one for each class but the blank.

    Raises:
        ValueError: a parameter of the head is unknown or has a value that is not supported.
    """
    holder = config.get("aux_ctc") if hybrid else config
    if not isinstance(holder, dict):
        raise ValueError("aux_ctc is missing.")
    section = section_of(holder, "decoder", "ConvASRDecoder")
    place = "aux_ctc.decoder" if hybrid else "decoder"
    check_known(section, DECODER | DECODER_FIXED.keys(), place)
    check_fixed(section, DECODER_FIXED, place)
    labels = section.get("vocabulary") or config.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{place}.vocabulary: {shown(labels)}; a list of text.")
    number = section.get("num_classes", -1)
    if number not in (None, -1, len(labels)):
        raise ValueError(f"{place}.num_classes: {number}, but {len(labels)} tokens.")
    return labels


def read_spec_augment(section: Any) -> dict[str, Any] | None:
    """Arguments of `SpecAugment` from the section `spec_augment`; its rectangles are left out.

    Raises:
        ValueError: a value is of another type.
    """
    if not isinstance(section, dict):
        return None
    number = {key: section.get(f"{key}_masks") or 0 for key in ("freq", "time")}
    if not any(number.values()):
        return None
    width = section.get("time_width", 10)
    by_length = isinstance(width, float)
    options = {
        "n_freq_masks": number["freq"],
        "freq_mask_param": section.get("freq_width", 10),
        "n_time_masks": number["time"],
        "time_mask_param": 10**6 if by_length else width,
        "time_fraction": width if by_length else 1.0,
    }
    check_arguments("spec_augment", SpecAugment, options)
    return options
