"""Starting a model from the weights of another run or project."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from src.interop import clearervoice, nemo
from src.trainer.checkpoint import WEIGHTS, existing, load_weights, misfits, read_tensors
from src.trainer.run_folder import RunFolder

logger = logging.getLogger(__name__)


def adopt_encoder(config: DictConfig) -> None:
    """Take the encoder and its front end as they are in what the run starts from.

    Where `encoder_from_pretrained` is set, nobody has to repeat the size of a pretrained encoder;
    dropouts stay those of this config.

    Raises:
        ValueError: there is nothing to start from.
    """
    if not config.get("encoder_from_pretrained"):
        return
    if not config.trainer.from_pretrained:
        raise ValueError("config, trainer.from_pretrained: name a pretrained run or .nemo file.")
    encoder, features = saved_encoder(Path(config.trainer.from_pretrained))
    for name, value in encoder.items():
        if not str(name).startswith(("dropout", "layer_drop")):
            config.model.encoder[name] = value
    with open_dict(config):
        config.transforms.features.update(features)
    config.sample_rate = features["sample_rate"]
    logger.info(
        "Encoder and front end are those of %s; of model.encoder only dropouts are this config's.",
        config.trainer.from_pretrained,
    )


def saved_encoder(path: Path) -> tuple[Any, Any]:
    """Options of the encoder and of the front end in a run, a checkpoint of it or a .nemo file.

    Raises:
        FileNotFoundError: there is no config that says them.
        ValueError: it has no FastConformer.
    """
    if path.suffix == ".nemo":
        return nemo.load_options(path)
    run = path if (path / "config.yaml").exists() else path.parent
    if not (run / "config.yaml").exists():
        raise FileNotFoundError(f"{path}: no run or .nemo file; only these say what they hold.")
    saved = RunFolder.open(run).read_config()
    if not OmegaConf.select(saved, "model.encoder.width"):
        raise ValueError(f"{path}: a run of {saved.model._target_}, which has no FastConformer.")
    return saved.model.encoder, saved.transforms.features


def load_pretrained(
    model: nn.Module, path: Path, part: str | None = None, strict: bool = True
) -> None:
    """Start a model, or a part of it, from weights; logs what was loaded and what wasn't.

    Args:
        model: gets the weights.
        path: a run's folder (its best), a checkpoint, a file of weights, a .nemo file or
            ClearerVoice's .pt.
        part: name of the submodule to load, e.g. `encoder`, called the same in both; None: all.
        strict: every weight of the part must be there and fit, and none may be left over.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: the weights are of another model, or the model has no such part.
    """
    weights = read_pretrained(path)
    prefix = f"{part}." if part else ""
    rest = [name for name in weights if not name.startswith(prefix)]
    weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    target = submodule(model, part, "trainer.pretrained_part") if part else model
    if not weights:
        raise ValueError(f"{path}: no weight is called {prefix}*, only {summary(rest)}.")
    if strict:
        load_weights(target, weights, path)
    else:
        weights = load_what_fits(target, weights, path)
    fresh = [name for name in model.state_dict() if name.removeprefix(prefix) not in weights]
    logger.info(
        "%s: loaded %d weights%s; left in the file: %s; not from the file: %s.",
        path,
        len(weights),
        f" of {part}" if part else "",
        summary(rest),
        summary(fresh),
    )


def read_pretrained(path: Path) -> dict[str, Tensor]:
    """Weights under our names, whatever holds them."""
    if path.suffix == ".nemo":
        weights = nemo.read_weights(path)
        return {k: v for k, v in weights.items() if not k.startswith("preprocessor.")}
    if path.suffix in (".pt", ".ckpt"):
        return clearervoice.load_clearervoice(path).state_dict()
    if path.is_dir():
        path = checkpoint_of(path) / WEIGHTS
    return read_tensors(path)


def checkpoint_of(path: Path) -> Path:
    """A run's best checkpoint, its last if it has no best one, or the checkpoint itself."""
    for folder in (path, path / "best"):
        try:
            return existing(folder)
        except FileNotFoundError:
            pass
    return existing(path / "last")


def submodule(model: nn.Module, name: str, key: str) -> nn.Module:
    """The part of a model that a config names.

    Raises:
        ValueError: it has none of that name; names the key of the config.
    """
    try:
        return model.get_submodule(name)
    except AttributeError:
        parts = ", ".join(child for child, _ in model.named_children())
        raise ValueError(f"config, {key}: the model has no '{name}', but {parts}.") from None


def load_what_fits(model: nn.Module, weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Load the weights whose name and shape fit, warn of the others, and return the former."""
    own = model.state_dict()
    for fault in misfits(own, weights):
        logger.warning("%s: %s", path, fault)
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    learnt = dict(model.named_parameters())
    if not any(name in learnt and learnt[name].requires_grad for name in fitting):
        raise ValueError(f"{path}: not one weight fits the model.")
    if len(fitting) < len(own):
        logger.warning("%s: only %d of %d weights fit.", path, len(fitting), len(own))
    model.load_state_dict(fitting, strict=False)
    return fitting


def summary(names: list[str]) -> str:
    """Names counted by their first part: `decoder (2), quantizer (2)`."""
    counted = Counter(name.split(".")[0] for name in names)
    return ", ".join(f"{name} ({count})" for name, count in counted.items()) or "nothing"
