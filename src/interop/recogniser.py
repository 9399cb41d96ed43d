"""NVIDIA NeMo's CTC recognisers, in and out, without NeMo.

Read are EncDecCTCModel and EncDecCTCModelBPE with a ConformerEncoder or a ConvASREncoder (Jasper,
QuartzNet, Citrinet), and the CTC branch of EncDecHybridRNNTCTCModel and ...BPEModel.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.interop import nemo, nemo_config, nemo_convolutional
from src.interop.archive import read_archive, read_artifact, read_model_config, write_archive
from src.interop.naming import check_fit
from src.interop.nemo_config import MODULES, check_fixed, check_known, section_of
from src.models.conformer import ConformerEncoder
from src.models.conformer_ctc import ConformerCTC
from src.models.jasper import ConvCTC, ConvEncoder
from src.text_encoder.base import TextEncoder
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.languages import LANGUAGES
from src.text_encoder.normalizer import Normalizer
from src.text_encoder.subwords import UNKNOWN, SubwordEncoder
from src.transforms.features.log_mel import LogMel
from src.utils.annotations import check_arguments
from src.utils.modules import dotted_name
from src.utils.options import shown

CTC = ("EncDecCTCModel", "EncDecCTCModelBPE")
HYBRID = ("EncDecHybridRNNTCTCModel", "EncDecHybridRNNTCTCBPEModel")
CHARACTERS = "nemo.collections.asr.models.ctc_models.EncDecCTCModel"
SUBWORDS = "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE"
HEAD = "decoder.decoder_layers.0."
HYBRID_HEAD = "ctc_decoder.decoder_layers.0."
TRANSDUCER = ("decoder.", "joint.", "loss.")  # beside a hybrid's CTC head
# Our models, and the classes of their encoders in NeMo.
MODELS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "ConformerEncoder": (ConformerCTC, ConformerEncoder),
    "ConformerEncoderAdapter": (ConformerCTC, ConformerEncoder),
    "ConvASREncoder": (ConvCTC, ConvEncoder),
}
DECODER = {"_target_", "feat_in", "num_classes", "vocabulary", "init_mode"}
DECODER_FIXED = {"add_blank": True, "activation": None}
LINEAR_ADAPTER = "nemo.collections.common.parts.adapter_modules.LinearAdapter"
STRATEGY = "nemo.core.classes.mixins.adapter_mixin_strategies.ResidualAddAdapterStrategy"
ADAPTER = {"_target_", "in_features", "dim", "norm_position", "dropout", "enabled", "_meta"}
ADAPTER |= {"adapter_strategy", "activation"}
SPEC_AUGMENT = "src.transforms.spectrogram.spec_augment.SpecAugment"
UNUSED = "unused_pieces"  # key of what this repository writes: pieces whose class is never output
NEVER = -1e4  # bias of such a class


@dataclass(frozen=True)
class Recogniser:
    """What a .nemo file of a recogniser holds, under our names.

    Attributes:
        model: config of the model, with `_target_` and without `vocab_size`.
        features: config of the front end.
        weights: state dict of the model; the blank is the first class.
        text_encoder: the tokens.
        spec_augment: config of SpecAugment in training; None if the file has none.
    """

    model: dict[str, Any]
    features: dict[str, Any]
    weights: dict[str, Tensor]
    text_encoder: TextEncoder
    spec_augment: dict[str, Any] | None

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
    kind = str(config.get("target")).rpartition(".")[2]
    if kind not in (*CTC, *HYBRID):
        raise ValueError(
            f"{path}: {config.get('target')} is no recogniser with a CTC head; only "
            f"{', '.join((*CTC, *HYBRID))} can be read."
        )
    model = nemo.apply_config(read_model, config, path)
    features = nemo.apply_config(nemo_config.read_features, config, path)
    check_front_end(features, weights, path)
    hybrid = kind in HYBRID
    decoder = nemo.apply_config(lambda c: read_decoder(c, hybrid), config, path)
    weights = our_weights(weights, hybrid)
    text_encoder, kept = read_tokens(config, decoder, path)
    with torch.device("meta"):  # takes neither time nor random numbers
        network = nemo.apply_config(
            lambda _: build_model(model, int(decoder["num_classes"]) + 1), config, path
        )
    if isinstance(network.encoder, ConvEncoder):
        weights = nemo_convolutional.our_names(network.encoder, weights)
    check_fit(network, weights, path)
    if kept is not None:
        weights = {k: v[kept] if k.startswith("head.") else v for k, v in weights.items()}
    front_end = {"_target_": dotted_name(LogMel), **features}
    return Recogniser(model, front_end, weights, text_encoder, read_spec_augment(config))


# The network -------------------------------------------------------------------------------


def read_model(config: dict[str, Any]) -> dict[str, Any]:
    """Config of our model from a NeMo config.

    Raises:
        KeyError: a parameter is missing.
        ValueError: a parameter is unknown or has a value that is not supported.
    """
    target = str(section_of(config, "encoder").get("_target_")).rpartition(".")[2]
    if target not in MODELS:
        raise ValueError(f"encoder._target_: {target} is not supported, only {', '.join(MODELS)}.")
    model, encoder = MODELS[target]
    if target == "ConvASREncoder":
        options = nemo_convolutional.read_encoder(config)
    else:
        options = nemo_config.read_encoder(config)
        adapters = read_adapters(config.get("adapters"))
        options |= {"adapters": adapters} if adapters else {}
    return {
        "_target_": dotted_name(model),
        "encoder": {"_target_": dotted_name(encoder), **options},
    }


def build_model(model: dict[str, Any], vocab_size: int) -> Any:
    """The model of its config, with random weights."""
    own, encoder = next(
        classes for classes in MODELS.values() if dotted_name(classes[0]) == model["_target_"]
    )
    options = {key: value for key, value in model["encoder"].items() if key != "_target_"}
    check_arguments("encoder", encoder, options)
    return own(encoder(**options), vocab_size)


def read_adapters(section: Any) -> dict[str, Any]:
    """Options of `Adapters` from the section `adapters` of a NeMo config.

    Raises:
        ValueError: one is not a linear adapter of the encoder.
    """
    adapters = {}
    for key, options in (section or {}).items():
        if key == "global_cfg":
            continue
        module, _, name = key.rpartition(":")
        place = f"adapters.{key}"
        if module not in ("", "encoder") or not isinstance(options, dict):
            raise ValueError(f"{place}: not an adapter of the encoder, which alone is supported.")
        check_known(options, ADAPTER, place)
        check_fixed(options, {"activation": "swish"}, place)
        if str(options.get("_target_")).rpartition(".")[2] != "LinearAdapter":
            raise ValueError(f"{place}._target_: {options.get('_target_')}; only LinearAdapter.")
        adapters[name] = {
            "dim": options["dim"],
            "norm_position": options.get("norm_position", "pre"),
            "dropout": float(options.get("dropout", 0.0)),
            "enabled": bool(options.get("enabled", True)),
        }
    return adapters


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


def read_decoder(config: dict[str, Any], hybrid: bool) -> dict[str, Any]:
    """The section of the CTC head.

    Raises:
        ValueError: a parameter is unknown or has a value that is not supported.
    """
    holder = config.get("aux_ctc") if hybrid else config
    if not isinstance(holder, dict):
        raise ValueError("aux_ctc is missing.")
    section = section_of(holder, "decoder", "ConvASRDecoder")
    place = "aux_ctc.decoder" if hybrid else "decoder"
    check_known(section, DECODER | DECODER_FIXED.keys(), place)
    check_fixed(section, DECODER_FIXED, place)
    vocabulary = section.get("vocabulary")
    if not isinstance(vocabulary, list) or not all(isinstance(v, str) for v in vocabulary):
        vocabulary = config.get("labels")
    number = section.get("num_classes", -1)
    if number is None or number <= 0:
        number = len(vocabulary or ())
    if not isinstance(vocabulary, list) or len(vocabulary) != number:
        raise ValueError(
            f"{place}.num_classes: {number}, but {len(vocabulary or ())} tokens in the vocabulary."
        )
    return {"num_classes": number, "vocabulary": vocabulary}


def read_spec_augment(config: dict[str, Any]) -> dict[str, Any] | None:
    """Config of SpecAugment from the section `spec_augment`; its rectangles are left out."""
    section = config.get("spec_augment")
    if not isinstance(section, dict):
        return None
    number = {key: section.get(f"{key}_masks") or 0 for key in ("freq", "time")}
    if not any(number.values()):
        return None
    width = section.get("time_width", 10)
    by_length = isinstance(width, float)
    return {
        "_target_": SPEC_AUGMENT,
        "n_freq_masks": number["freq"],
        "freq_mask_param": section.get("freq_width", 10),
        "n_time_masks": number["time"],
        "time_mask_param": 10**6 if by_length else width,
        "time_fraction": width if by_length else 1.0,
    }


# Tokens ------------------------------------------------------------------------------------


def read_tokens(
    config: dict[str, Any], decoder: dict[str, Any], path: Path
) -> tuple[TextEncoder, list[int] | None]:
    """The text encoder of a file, and which classes of the head are its tokens.

    Returns:
        The text encoder, and the classes, the blank first; None for all of them.

    Raises:
        ValueError: the tokenizer is missing, damaged, of another kind, or has another number of
            tokens than the head has classes.
    """
    number, labels = decoder["num_classes"], decoder["vocabulary"]
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


# Out ---------------------------------------------------------------------------------------


def save_recogniser(
    model: ConformerCTC | ConvCTC, features: LogMel, tokens: TextEncoder, path: str | Path
) -> None:
    """Write a .nemo file of an EncDecCTCModel or EncDecCTCModelBPE.

    Args:
        model: the model to write.
        features: its front end.
        tokens: its text encoder.
        path: of the file; an existing one is replaced.

    Raises:
        ValueError: NeMo has no such model or front end.
    """
    path = Path(path)
    if features.n_mels != model.encoder.feat_in:
        raise ValueError(
            f"{path}: features with {features.n_mels} mel bins for a model with feat_in "
            f"{model.encoder.feat_in}."
        )
    state = model.state_dict()
    head = {key: state.pop(f"head.{key}") for key in ("weight", "bias")}
    labels, artifacts, config = write_tokens(tokens)
    unused = config.get(UNUSED, [])
    head["weight"] = with_classes(head["weight"].roll(-1, 0), unused, 0.0).unsqueeze(-1)
    head["bias"] = with_classes(head["bias"].roll(-1, 0), unused, NEVER)
    weights = {nemo.WINDOW: features.power.window, nemo.BANDS: features.filterbank.unsqueeze(0)}
    weights |= write_encoder(model, state, config)
    weights |= {HEAD + key: value for key, value in head.items()}
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}
    config |= {
        "sample_rate": features.sample_rate,
        "preprocessor": nemo_config.write_features(features),
        "decoder": {
            "_target_": MODULES + "ConvASRDecoder",
            "feat_in": model.encoder.feat_out,
            "num_classes": len(labels),
            "vocabulary": labels,
        },
        "spec_augment": nemo_config.NO_SPEC_AUGMENT,
        "train_ds": None,
        "validation_ds": None,
        "test_ds": None,
        "nemo_version": nemo.VERSION,
    }
    write_archive(path, config, weights, artifacts)


def write_encoder(
    model: ConformerCTC | ConvCTC, state: dict[str, Tensor], config: dict[str, Any]
) -> dict[str, Tensor]:
    """Add the encoder's sections to a NeMo config; returns its weights under NeMo's names."""
    encoder: Any = model.encoder
    if isinstance(encoder, ConvEncoder):
        config["encoder"] = nemo_convolutional.write_encoder(encoder)
        return nemo_convolutional.nemo_names(encoder, state)
    config["encoder"] = nemo_config.write_encoder(encoder)
    adapters: Mapping[str, Mapping[str, Any]] = encoder.options["adapters"] or {}
    if adapters:
        config["encoder"]["_target_"] = MODULES + "conformer_encoder.ConformerEncoderAdapter"
        config["adapters"] = {
            "global_cfg": {
                "check_encoder_adapter": True,
                "check_decoder_adapter": False,
                "check_joint_adapter": False,
            }
        }
    for name, options in adapters.items():
        config["adapters"][f"encoder:{name}"] = {
            "_target_": LINEAR_ADAPTER,
            "in_features": encoder.d_model,
            "dim": options["dim"],
            "activation": "swish",
            "norm_position": options.get("norm_position", "pre"),
            "dropout": options.get("dropout", 0.0),
            "adapter_strategy": {"_target_": STRATEGY, "stochastic_depth": 0.0, "l2_lambda": 0.0},
            "enabled": options.get("enabled", True),
        }
    post = [name for name, own in adapters.items() if own.get("norm_position") == "post"]
    return nemo.to_nemo(state, post)


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


def with_classes(values: Tensor, places: list[int], fill_value: float) -> Tensor:
    """Rows [V, ...] with further rows of one value at some places of the result, in order."""
    for place in places:
        row = torch.full_like(values[:1], fill_value)
        values = torch.cat([values[:place], row, values[place:]])
    return values
