"""Conversion of NeMo's model configs to constructor arguments and back.

A parameter that is neither supported nor known to change no result is an error.
"""

import math
from typing import Any

from src.interop.nemo_sections import check_fixed, check_known, plain, section_of
from src.models.conformer import ConformerEncoder
from src.models.layers.nest.quantizer import RandomProjectionQuantizer
from src.models.nest import NEST
from src.transforms.features.log_mel import LogMel
from src.utils.options import check_whole

MODULES = "nemo.collections.asr.modules."
LARGEST_FFT = 2**16
NO_SPEC_AUGMENT = {
    "_target_": MODULES + "SpectrogramAugmentation",
    "freq_masks": 0,
    "time_masks": 0,
    "freq_width": 27,
    "time_width": 0.05,
}
FRONT_END: dict[str, Any] = {
    "preemphasis": 0.97,
    "symmetric_window": True,
    "drop_last_frame": True,
    "pad_to": 16,
}

# Parameters of the encoder: NeMo's names and ours.
ENCODER = {
    "feat_in": "feat_in",
    "n_layers": "num_layers",
    "d_model": "d_model",
    "n_heads": "num_heads",
    "ff_expansion_factor": "ff_expansion",
    "conv_kernel_size": "conv_kernel_size",
    "conv_norm_type": "conv_norm_type",
    "use_bias": "use_bias",
    "subsampling": "subsampling",
    "subsampling_factor": "subsampling_factor",
    "subsampling_conv_channels": "subsampling_conv_channels",
    "causal_downsampling": "causal_downsampling",
    "att_context_size": "att_context_size",
    "att_context_probs": "att_context_probs",
    "att_context_style": "att_context_style",
    "conv_context_size": "conv_context_size",
    "xscaling": "xscaling",
    "untie_biases": "untie_biases",
    "feat_out": "feat_out",
    "dropout": "dropout",
    "dropout_pre_encoder": "dropout_pre_encoder",
    "dropout_emb": "dropout_emb",
    "dropout_att": "dropout_att",
    "stochastic_depth_drop_prob": "stochastic_depth_drop_prob",
    "stochastic_depth_mode": "stochastic_depth_mode",
    "stochastic_depth_start_layer": "stochastic_depth_start_layer",
}
# Parameters that change no result, and parameters of which one value is supported.
ENCODER_IGNORED = {
    "_target_",
    "pos_emb_max_len",  # here the positional encoding is computed for each batch
    "use_pytorch_sdpa",
    "use_pytorch_sdpa_backends",
    "subsampling_conv_chunking_factor",
    "sync_max_audio_length",
}
ENCODER_FIXED = {
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
    "stft_exact_pad": False,
    "use_torchaudio": False,
    "n_window_size": None,
    "n_window_stride": None,
}
FEATURES_IGNORED = {"_target_", "dither", "rng", "nb_max_freq", "int_values"}
NORMALIZATIONS = {
    "per_feature": "per_feature",
    "all_features": "all_features",
    None: "none",
    "NA": "none",
}


def read_encoder(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `ConformerEncoder` from a model config.

    Raises:
        ValueError: a parameter is unknown or has a value that is not supported.
    """
    section = section_of(config, "encoder", "ConformerEncoder", "ConformerEncoderAdapter")
    check_fixed(section, ENCODER_FIXED, "encoder")
    known = ENCODER_IGNORED | ENCODER_FIXED.keys() | ENCODER.keys()
    check_known(section, known, "encoder")
    options = {ours: section[theirs] for theirs, ours in ENCODER.items() if theirs in section}
    if options.get("att_context_size") is None:
        options.pop("att_context_size", None)
    if options.get("subsampling_conv_channels") == -1:  # in NeMo: d_model
        options["subsampling_conv_channels"] = options["d_model"]
    if (options.get("feat_out") or -1) <= 0:
        options["feat_out"] = None
    return options


def read_masking(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `BlockMask` from a model config, except the algorithm, which it doesn't specify.

    Raises:
        ValueError: a parameter is unknown or has a value that is not supported.
    """
    section = section_of(config, "masking", "RandomBlockMasking")
    known = {"_target_", "block_size", "mask_prob", "feat_in", "freeze", "allow_overlap"}
    check_known(section, known | {"mask_value", "max_mask_ratio"}, "masking")
    check_fixed(section, {"freeze": True, "max_mask_ratio": 0.8}, "masking")
    return {
        "block_size": section["block_size"],
        "mask_prob": section["mask_prob"],
        "allow_overlap": section["allow_overlap"],
    }


def read_nest(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `NEST`, apart from the encoder and the masking, from a model config.

    Raises:
        ValueError: parts of the config contradict each other, or a parameter is unknown or has a
            value that is not supported.
    """
    quantizer = section_of(config, "quantizer", "RandomProjectionVectorQuantizer")
    known = {"_target_", "feat_in", "code_dim", "num_books", "num_classes", "dist_fn", "freeze"}
    check_known(
        quantizer, known | {"time_ahead", "squeeze_single", "combine_time_steps"}, "quantizer"
    )
    num_codebooks, codebook_size = quantizer["num_books"], quantizer["num_classes"]
    factor = config["encoder"]["subsampling_factor"]
    features = config["encoder"]["feat_in"]
    fixed = {"freeze": True, "time_ahead": False, "feat_in": features}
    check_fixed(quantizer, fixed | {"combine_time_steps": factor}, "quantizer")
    decoder = section_of(config, "decoder", "MultiSoftmaxDecoder")
    fixed = {"use_bias": True, "num_decoders": num_codebooks, "num_classes": codebook_size}
    check_fixed(decoder, fixed | {"feat_in": encoder_feat_out(config["encoder"])}, "decoder")
    known = {"_target_", "feat_in", "num_classes", "num_decoders", "init_mode", "use_bias"}
    check_known(decoder, known | {"squeeze_single"}, "decoder")
    loss = section_of(config, "loss", "MultiMLMLoss")
    check_fixed(loss, {"combine_time_steps": factor, "num_decoders": num_codebooks}, "loss")
    known = {"_target_", "combine_time_steps", "mask_threshold", "num_decoders", "squeeze_single"}
    check_known(loss, known, "loss")
    # NeMo divides block_size of a post_conv model again whenever it is restored and saved, so the
    # trained value is not known.
    check_fixed(config, {"mask_position": "pre_conv"})
    return {
        "codebook_size": codebook_size,
        "num_codebooks": num_codebooks,
        "code_dim": quantizer["code_dim"],
        "distance": quantizer.get("dist_fn", "cosine"),
        "mask_threshold": loss.get("mask_threshold", 0.8),
        "mask_value": config["masking"].get("mask_value"),
    }


def encoder_feat_out(section: dict[str, Any]) -> int:
    """Size of the encoder's output vectors from its section of a model config."""
    feat_out = section.get("feat_out") or -1
    return feat_out if feat_out > 0 else section["d_model"]


def read_features(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `LogMel` from a model config; dither is not a part of it, but a transform.

    Raises:
        ValueError: a parameter is unknown or has a value that is not supported.
    """
    section = section_of(config, "preprocessor", "AudioToMelSpectrogramPreprocessor")
    check_fixed(section, FEATURES_FIXED, "preprocessor")
    read = {"sample_rate", "normalize", "window_size", "window_stride", "features", "n_fft"}
    read |= {"pad_to", "highfreq"}
    check_known(section, read | FEATURES_IGNORED | FEATURES_FIXED.keys(), "preprocessor")
    sample_rate = section.get("sample_rate", 16000)
    normalization = section.get("normalize", "per_feature")
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"preprocessor.normalize: {normalization} is not supported, only "
            f"{', '.join(map(str, NORMALIZATIONS))}."
        )
    win_length = int(section.get("window_size", 0.02) * sample_rate)  # NeMo rounds down, too
    n_fft = section.get("n_fft") or 2 ** math.ceil(math.log2(win_length))
    check_whole("preprocessor.n_fft", n_fft, low=win_length, high=LARGEST_FFT)
    check_whole("preprocessor.features", section.get("features", 64), high=n_fft)
    return FRONT_END | {
        "sample_rate": sample_rate,
        "n_fft": n_fft,
        "win_length": win_length,
        "hop_length": int(section.get("window_stride", 0.01) * sample_rate),
        "n_mels": section.get("features", 64),
        "f_max": section.get("highfreq") or None,
        "normalization": NORMALIZATIONS[normalization],
        "pad_to": section.get("pad_to", 16),
    }


def write(model: NEST, features: LogMel) -> dict[str, Any]:
    """Complete NeMo config of a model and its front end.

    Raises:
        ValueError: NeMo has no such front end or quantizer, mask_position is
            after_subsampling, or the encoder has adapters.
    """
    if model.mask_position != "before_subsampling":
        raise ValueError(
            f"mask_position: {model.mask_position} cannot be written for NeMo, only "
            "before_subsampling."
        )
    if not isinstance(model.quantizer, RandomProjectionQuantizer):
        raise ValueError("quantizer: NeMo has random projections only, no clusters of features.")
    if model.encoder.options["adapters"]:
        raise ValueError("encoder.adapters: NeMo has them in recognisers only, not in NEST.")
    factor, feat_in = model.encoder.subsampling.factor, model.encoder.feat_in
    num_codebooks, codebook_size, code_dim = model.quantizer.codebooks.shape
    return {
        "sample_rate": features.sample_rate,
        "num_classes": codebook_size,
        "num_books": num_codebooks,
        "code_dim": code_dim,
        "squeeze_single": False,
        "mask_position": "pre_conv",
        "train_ds": None,
        "validation_ds": None,
        "preprocessor": write_features(features),
        "spec_augment": NO_SPEC_AUGMENT,
        "masking": {
            "_target_": MODULES + "RandomBlockMasking",
            "block_size": model.masking.block_size,
            "mask_prob": model.masking.mask_prob,
            "feat_in": len(model.mask_embedding),
            "freeze": True,
            "allow_overlap": model.masking.allow_overlap,
        },
        "quantizer": {
            "_target_": MODULES + "RandomProjectionVectorQuantizer",
            "feat_in": feat_in,
            "code_dim": code_dim,
            "num_books": num_codebooks,
            "num_classes": codebook_size,
            "dist_fn": model.quantizer.distance,
            "freeze": True,
            "squeeze_single": False,
            "combine_time_steps": factor,
        },
        "encoder": write_encoder(model.encoder),
        "decoder": {
            "_target_": MODULES + "MultiSoftmaxDecoder",
            "feat_in": model.encoder.feat_out,
            "num_classes": codebook_size,
            "num_decoders": num_codebooks,
            "squeeze_single": False,
            "use_bias": True,
        },
        "loss": {
            "_target_": "nemo.collections.asr.losses.MultiMLMLoss",
            "combine_time_steps": factor,
            "mask_threshold": model.mask_threshold,
            "num_decoders": num_codebooks,
            "squeeze_single": False,
        },
    }


def write_encoder(encoder: ConformerEncoder) -> dict[str, Any]:
    """The `encoder` section of a NeMo config."""
    options = encoder.options
    plain_class, with_adapters = "ConformerEncoder", "conformer_encoder.ConformerEncoderAdapter"
    return {
        "_target_": MODULES + (with_adapters if options["adapters"] else plain_class),
        **{theirs: plain(options[ours]) for theirs, ours in ENCODER.items()},
        "feat_out": options["feat_out"] or -1,
        "self_attention_model": "rel_pos",
        "pos_emb_max_len": 5000,
    }


def write_features(features: LogMel) -> dict[str, Any]:
    """The `preprocessor` section of a NeMo config.

    Raises:
        ValueError: NeMo has no such front end.
    """
    own = (
        features.preemphasis,
        features.symmetric_window,
        features.drop_last_frame,
        features.f_min,
        features.fixed_mean,
        features.fixed_std,
    )
    if own != (0.97, True, True, 0.0, 0.0, 1.0):
        raise ValueError(
            "features: NeMo's front end has preemphasis=0.97, symmetric_window, "
            "drop_last_frame, f_min=0, fixed_mean=0 and fixed_std=1."
        )
    power = features.power
    return {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "sample_rate": features.sample_rate,
        "normalize": {v: k for k, v in NORMALIZATIONS.items()}[features.normalization],  # none: NA
        "window_size": in_seconds(power.win_length, features.sample_rate),
        "window_stride": in_seconds(power.hop_length, features.sample_rate),
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


def in_seconds(samples: int, sample_rate: int) -> float:
    """A duration of which NeMo, which rounds down, makes the same number of samples again."""
    seconds = samples / sample_rate
    return seconds if int(seconds * sample_rate) == samples else (samples + 0.5) / sample_rate
