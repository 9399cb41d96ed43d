"""NeMo's model configs: what each of their knobs is called here, or that it is not known."""

from typing import Any

from src.models.nest import NEST
from src.transforms.features.log_mel import LogMel

FRONT_END: dict[str, Any] = {
    "preemphasis": 0.97,
    "symmetric_window": True,
    "whole_hops": True,
    "pad_to": 16,
}

# NeMo's name of a knob: our argument.
ENCODER = {
    "feat_in": "n_features",
    "n_layers": "layers",
    "d_model": "width",
    "n_heads": "heads",
    "ff_expansion_factor": "expansion",
    "conv_kernel_size": "kernel",
    "conv_norm_type": "norm",
    "use_bias": "bias",
    "subsampling_factor": "subsampling",
    "subsampling_conv_channels": "subsampling_channels",
    "causal_downsampling": "causal_subsampling",
    "att_context_size": "contexts",
    "att_context_probs": "context_probabilities",
    "att_context_style": "context_style",
    "conv_context_size": "conv_context",
    "xscaling": "scale_input",
    "untie_biases": "untie_biases",
    "feat_out": "output",
    "dropout": "dropout",
    "dropout_pre_encoder": "dropout_input",
    "dropout_emb": "dropout_positions",
    "dropout_att": "dropout_attention",
    "stochastic_depth_drop_prob": "layer_drop",
    "stochastic_depth_mode": "layer_drop_mode",
    "stochastic_depth_start_layer": "layer_drop_start",
}
# Knobs that change no number, and knobs of which one value is known.
ENCODER_IGNORED = {
    "_target_",
    "pos_emb_max_len",  # the table is made anew for each batch
    "use_pytorch_sdpa",
    "use_pytorch_sdpa_backends",
    "subsampling_conv_chunking_factor",
    "sync_max_audio_length",
}
ENCODER_FIXED = {
    "subsampling": "dw_striding",
    "self_attention_model": "rel_pos",
    "reduction": None,
    "reduction_position": None,
    "reduction_factor": 1,
    "global_tokens": 0,
    "global_tokens_spacing": 1,
    "global_attn_separate": False,
    "bypass_pre_encode": False,
}
FEATURES_FIXED = {
    "window": "hann",
    "log": True,
    "frame_splicing": 1,
    "pad_value": 0.0,
    "preemph": 0.97,
    "mag_power": 2.0,
    "log_zero_guard_type": "add",
    "log_zero_guard_value": 2**-24,
    "exact_pad": False,
    "mel_norm": "slaney",
    "nb_augmentation_prob": 0.0,
    "lowfreq": 0,
    "stft_conv": False,
    "use_torchaudio": False,
}
NORMALIZATIONS = {"per_feature": "bands", "all_features": "utterance", None: "none"}


def read_encoder(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `ConformerEncoder`.

    Raises:
        ValueError: a knob is unknown or has a value that is not supported.
    """
    section = section_of(config, "encoder", "ConformerEncoder")
    check_fixed(section, ENCODER_FIXED, "encoder")
    known = ENCODER_IGNORED | ENCODER_FIXED.keys() | ENCODER.keys()
    check_known(section, known, "encoder")
    options = {ours: section[theirs] for theirs, ours in ENCODER.items() if theirs in section}
    if options.get("subsampling_channels") == -1:  # which there means: as wide as the encoder
        options["subsampling_channels"] = options["width"]
    if (options.get("output") or -1) <= 0:
        options["output"] = None
    return options


def read_masking(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `BlockMask`; which algorithm was used stands in no config."""
    section = section_of(config, "masking", "RandomBlockMasking")
    known = {"_target_", "block_size", "mask_prob", "feat_in", "freeze", "allow_overlap"}
    check_known(section, known | {"mask_value", "max_mask_ratio"}, "masking")
    check_fixed(section, {"freeze": True, "max_mask_ratio": 0.8}, "masking")
    return {
        "block": section["block_size"],
        "probability": section["mask_prob"],
        "overlap": section["allow_overlap"],
    }


def read_nest(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `NEST` beside the encoder and the masking.

    Raises:
        ValueError: parts of the config contradict each other or are not supported.
    """
    quantizer = section_of(config, "quantizer", "RandomProjectionVectorQuantizer")
    known = {"_target_", "feat_in", "code_dim", "num_books", "num_classes", "dist_fn", "freeze"}
    check_known(
        quantizer, known | {"time_ahead", "squeeze_single", "combine_time_steps"}, "quantizer"
    )
    books, classes = quantizer["num_books"], quantizer["num_classes"]
    factor = config["encoder"]["subsampling_factor"]
    features = config["encoder"]["feat_in"]
    fixed = {"freeze": True, "time_ahead": False, "feat_in": features}
    check_fixed(quantizer, fixed | {"combine_time_steps": factor}, "quantizer")
    decoder = section_of(config, "decoder", "MultiSoftmaxDecoder")
    fixed = {"use_bias": True, "num_decoders": books, "num_classes": classes}
    check_fixed(decoder, fixed | {"feat_in": encoder_width(config["encoder"])}, "decoder")
    known = {"_target_", "feat_in", "num_classes", "num_decoders", "init_mode", "use_bias"}
    check_known(decoder, known | {"squeeze_single"}, "decoder")
    loss = section_of(config, "loss", "MultiMLMLoss")
    check_fixed(loss, {"combine_time_steps": factor, "num_decoders": books}, "loss")
    known = {"_target_", "combine_time_steps", "mask_threshold", "num_decoders", "squeeze_single"}
    check_known(loss, known, "loss")
    # NeMo divides the block of a post_conv model anew at each restore: nobody knows which it was.
    if config.get("mask_position", "pre_conv") != "pre_conv":
        raise ValueError(
            f"mask_position: {config['mask_position']} is not supported, only pre_conv."
        )
    return {
        "classes": classes,
        "books": books,
        "code_size": quantizer["code_dim"],
        "distance": quantizer.get("dist_fn", "cosine"),
        "mask_threshold": loss.get("mask_threshold", 0.8),
        "mask_value": config["masking"].get("mask_value"),
    }


def encoder_width(section: dict[str, Any]) -> int:
    """Of the vectors that come out."""
    output = section.get("feat_out") or -1
    return output if output > 0 else section["d_model"]


def read_features(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `LogMel`; dither is a transform of training, not of the front end."""
    section = section_of(config, "preprocessor", "AudioToMelSpectrogramPreprocessor")
    check_fixed(section, FEATURES_FIXED, "preprocessor")
    read = {"_target_", "sample_rate", "normalize", "window_size", "window_stride", "features"}
    read |= {"n_fft", "dither", "pad_to", "highfreq", "rng"}
    check_known(section, read | FEATURES_FIXED.keys(), "preprocessor")
    rate = section["sample_rate"]
    if section["normalize"] not in NORMALIZATIONS:
        raise ValueError(f"preprocessor.normalize: {section['normalize']} is not supported.")
    return FRONT_END | {
        "sample_rate": rate,
        "n_fft": section["n_fft"],
        "window": round(section["window_size"] * rate),
        "hop": round(section["window_stride"] * rate),
        "n_mels": section["features"],
        "f_max": section.get("highfreq"),
        "normalization": NORMALIZATIONS[section["normalize"]],
        "pad_to": section.get("pad_to", 16),
    }


def write(model: NEST, features: LogMel) -> dict[str, Any]:
    """The config of a model, whole, as NeMo wants it.

    Raises:
        ValueError: NeMo has no such front end, or the mask lies after the subsampling.
    """
    if model.after_subsampling:
        raise ValueError("mask_position: only before_subsampling can be written for NeMo.")
    options = model.encoder.options
    modules = "nemo.collections.asr.modules."
    factor, n_features = model.encoder.subsampling.factor, model.encoder.n_features
    quantizer, books = model.quantizer, model.quantizer.books
    classes = quantizer.codebooks.shape[1]
    return {
        "sample_rate": features.sample_rate,
        "num_classes": classes,
        "num_books": books,
        "code_dim": quantizer.codebooks.shape[2],
        "squeeze_single": False,
        "mask_position": "pre_conv",
        "train_ds": None,
        "validation_ds": None,
        "preprocessor": write_features(features),
        "spec_augment": {
            "_target_": modules + "SpectrogramAugmentation",
            "freq_masks": 0,
            "time_masks": 0,
            "freq_width": 27,
            "time_width": 0.05,
        },
        "masking": {
            "_target_": modules + "RandomBlockMasking",
            "block_size": model.masking.block,
            "mask_prob": model.masking.probability,
            "feat_in": len(model.mask_embedding),
            "freeze": True,
            "allow_overlap": model.masking.overlap,
        },
        "quantizer": {
            "_target_": modules + "RandomProjectionVectorQuantizer",
            "feat_in": n_features,
            "code_dim": quantizer.codebooks.shape[2],
            "num_books": books,
            "num_classes": classes,
            "dist_fn": quantizer.distance,
            "freeze": True,
            "squeeze_single": False,
            "combine_time_steps": factor,
        },
        "encoder": {
            "_target_": modules + "ConformerEncoder",
            **{theirs: plain(options[ours]) for theirs, ours in ENCODER.items()},
            "feat_out": options["output"] or -1,
            "subsampling": "dw_striding",
            "self_attention_model": "rel_pos",
            "pos_emb_max_len": 5000,
        },
        "decoder": {
            "_target_": modules + "MultiSoftmaxDecoder",
            "feat_in": model.encoder.output_width,
            "num_classes": classes,
            "num_decoders": books,
            "squeeze_single": False,
            "use_bias": True,
        },
        "loss": {
            "_target_": "nemo.collections.asr.losses.MultiMLMLoss",
            "combine_time_steps": factor,
            "mask_threshold": model.mask_threshold,
            "num_decoders": books,
            "squeeze_single": False,
        },
    }


def write_features(features: LogMel) -> dict[str, Any]:
    """The preprocessor's section.

    Raises:
        ValueError: NeMo has no such front end.
    """
    own = (features.preemphasis, features.symmetric_window, features.dropped, features.f_min)
    if own != (0.97, True, 1, 0.0):
        raise ValueError(
            "features: NeMo's front end has preemphasis=0.97, symmetric_window, whole_hops and "
            "f_min=0."
        )
    power = features.power
    return {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "sample_rate": features.sample_rate,
        "normalize": {v: k for k, v in NORMALIZATIONS.items()}[features.normalization],
        "window_size": power.window_length / features.sample_rate,
        "window_stride": power.hop / features.sample_rate,
        "window": "hann",
        "features": features.n_mels,
        "highfreq": features.f_max,
        "n_fft": power.n_fft,
        "log": True,
        "frame_splicing": 1,
        "dither": 1e-5,
        "pad_to": features.pad_to,
        "pad_value": 0.0,
    }


def section_of(config: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    """A part of the config.

    Raises:
        ValueError: it is missing or of another class.
    """
    section = config.get(name)
    if not isinstance(section, dict):
        raise ValueError(f"{name} is missing.")
    target = str(section.get("_target_", "nothing"))
    if target.rpartition(".")[2] != kind:
        raise ValueError(f"{name} is {target}; only {kind} is supported.")
    return section


def check_fixed(section: dict[str, Any], fixed: dict[str, Any], name: str) -> None:
    """See that knobs, where they are set, have the one value that is supported."""
    for key, wanted in fixed.items():
        if section.get(key, wanted) != wanted:
            raise ValueError(f"{name}.{key}: {section[key]} is not supported, only {wanted}.")


def check_known(section: dict[str, Any], known: set[str], name: str) -> None:
    """See that no knob is there that could mean anything."""
    for key in section:
        if key not in known:
            raise ValueError(f"{name}.{key}: this knob is not known.")


def plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value
