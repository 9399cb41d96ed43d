"""NVIDIA NeMo's CTC recognisers, written without NeMo."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.interop import nemo, nemo_config, nemo_convolutional
from src.interop.archive import write_archive
from src.interop.nemo_adapters import norm_last, write_adapters
from src.interop.nemo_config import MODULES
from src.interop.nemo_tokens import UNUSED, write_tokens
from src.interop.recogniser import HEAD
from src.models.encoder_ctc import EncoderCTC
from src.models.jasper import ConvEncoder
from src.text_encoder.base import TextEncoder
from src.transforms.features.log_mel import LogMel

TRAINING_ONLY = "intermediate_head."  # begins the names of weights that inference doesn't need
NEVER = -1e4  # bias of a class that is never output


def save_recogniser(
    model: EncoderCTC, features: LogMel, tokens: TextEncoder, path: str | Path
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
    if model.layer_scores is not None:
        raise ValueError(f"{path}: NeMo has no weighted sum of layers (model.weighted_sum).")
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(TRAINING_ONLY)}
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
    model: EncoderCTC, state: dict[str, Tensor], config: dict[str, Any]
) -> dict[str, Tensor]:
    """Add the encoder's sections to a NeMo config; returns its weights under NeMo's names."""
    encoder: Any = model.encoder
    if isinstance(encoder, ConvEncoder):
        config["encoder"] = nemo_convolutional.write_encoder(encoder)
        return nemo_convolutional.nemo_names(encoder, state)
    config["encoder"] = nemo_config.write_encoder(encoder)
    adapters = encoder.options["adapters"] or {}
    if adapters:
        config["adapters"] = write_adapters(adapters, encoder.d_model)
    return nemo.to_nemo(state, norm_last(adapters))


def with_classes(values: Tensor, places: list[int], fill_value: float) -> Tensor:
    """Rows [V, ...] with further rows of one value at some places of the result, in order."""
    for place in places:
        row = torch.full_like(values[:1], fill_value)
        values = torch.cat([values[:place], row, values[place:]])
    return values
