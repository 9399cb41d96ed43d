"""Linear adapters in the configs of NVIDIA NeMo's models."""

from collections.abc import Mapping
from typing import Any

from src.interop.nemo_sections import check_fixed, check_known, class_of

LINEAR_ADAPTER = "nemo.collections.common.parts.adapter_modules.LinearAdapter"
STRATEGY = "nemo.core.classes.mixins.adapter_mixin_strategies.ResidualAddAdapterStrategy"
ADAPTER = {"_target_", "in_features", "dim", "norm_position", "dropout", "enabled", "_meta"}
ADAPTER |= {"adapter_strategy", "activation"}
# What NeMo checks before it adds adapters to a model.
CHECKS = {
    "check_encoder_adapter": True,
    "check_decoder_adapter": False,
    "check_joint_adapter": False,
}


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
        if class_of(options) != "LinearAdapter":
            raise ValueError(f"{place}: a {class_of(options)}, only LinearAdapter is supported.")
        adapters[name] = {
            "dim": options["dim"],
            "norm_position": options.get("norm_position", "pre"),
            "dropout": float(options.get("dropout", 0.0)),
            "enabled": bool(options.get("enabled", True)),
        }
    return adapters


def write_adapters(adapters: Mapping[str, Mapping[str, Any]], d_model: int) -> dict[str, Any]:
    """The section `adapters` of a NeMo config.

    Args:
        adapters: name -> options, of `Adapters`.
        d_model: size of the encoder's vectors.
    """
    section: dict[str, Any] = {"global_cfg": CHECKS}
    for name, options in adapters.items():
        section[f"encoder:{name}"] = {
            "_target_": LINEAR_ADAPTER,
            "in_features": d_model,
            "dim": options["dim"],
            "activation": "swish",
            "norm_position": options.get("norm_position", "pre"),
            "dropout": options.get("dropout", 0.0),
            "adapter_strategy": {"_target_": STRATEGY, "stochastic_depth": 0.0, "l2_lambda": 0.0},
            "enabled": options.get("enabled", True),
        }
    return section


def norm_last(adapters: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the adapters whose norm comes last."""
    return [name for name, own in adapters.items() if own.get("norm_position") == "post"]
