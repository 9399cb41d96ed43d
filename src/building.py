"""From the config of an experiment to its System."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from src.config import build, require
from src.system import System
from src.transforms.chain import Chain
from src.utils.nodes import check_node, plain


def build_system(config: DictConfig, text_encoder: Any = None) -> System:
    """The system that a config describes, on the CPU.

    Args:
        config: of an experiment.
        text_encoder: of a run that was saved; None builds that of the config, if it has one.

    Raises:
        ValueError: a part can't be built; names the config key.
    """
    require(config, "model", "task", "transforms")
    if config.get("features") is not None:
        check_node("features", plain(config.features))
    if text_encoder is None:
        text_encoder = build(config, "text_encoder")
    with_text = {} if text_encoder is None else {"text_encoder": text_encoder}
    return System(
        build_model(config, text_encoder),
        build(config, "task", **with_text),
        sample_rate=config.sample_rate,
        train_transforms=build_chain(config, "batch", "train"),
        inference_transforms=build_chain(config, "batch", "inference"),
        loss=build(config, "loss"),
        text_encoder=text_encoder,
        config=config,
    )


def build_model(config: DictConfig, text_encoder: Any) -> nn.Module:
    """The model; with a text encoder, its argument `vocab_size` is the size of the vocabulary."""
    sizes = {} if text_encoder is None else {"vocab_size": len(text_encoder)}
    return build(config, "model", **sizes)


def build_chain(config: DictConfig, kind: str, use: str) -> Chain:
    """The transforms of `config.transforms.<kind>.<use>`, in the order of the config.

    Those of `config.cleaning` come first: in training on single items, in the data workers; in
    inference on batches, so that a loaded run cleans what it is given, too.

    Args:
        config: of an experiment.
        kind: `batch` or `instance`.
        use: `train` or `inference`.
    """
    require(config, f"transforms.{kind}")
    own = build(config.transforms[kind], use) or {}
    cleans = (kind, use) in (("instance", "train"), ("batch", "inference"))
    cleaning = build(config, "cleaning") or {} if cleans else {}
    chain = Chain(cleaning | own)
    shown = OmegaConf.select(config, "trainer.show_stages") == "all"
    chain.keeps_stages = shown and (kind, use) == ("instance", "train")
    return chain
