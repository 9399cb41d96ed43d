"""What the page says about a run: config, commit, curves, hours of data, parameters."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from src.utils.files import read_jsonl

logger = logging.getLogger(__name__)

LONGEST = 200_000  # characters of the config


@dataclass(frozen=True)
class Facts:
    """About a run.

    Attributes:
        name: of the experiment, and of the run's folder or the file of its weights.
        config: as YAML; empty for a page about several runs.
        commit: of the code of the training; empty if unknown.
        changed: whether the code differed from the commit.
        parameters: of the model.
        trained_on: `hours` and `utterances` of the training data; empty if unknown.
        metrics: rows of metrics.jsonl.
    """

    name: str
    config: str = ""
    commit: str = ""
    changed: bool = False
    parameters: int = 0
    trained_on: dict[str, float] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)


def facts_of_run(path: Path, config: DictConfig, model: nn.Module) -> Facts:
    """The facts about a run; what its folder lacks is left out.

    Args:
        path: of the run's folder, or of a file with weights.
        config: of the system that is evaluated.
        model: of the system.
    """
    metrics = path / "metrics.jsonl"
    return Facts(
        name=", ".join(filter(None, (config.get("name"), path.resolve().name))),
        config=OmegaConf.to_yaml(config)[:LONGEST],
        commit=text_of(path / "git_commit.txt"),
        changed=bool(text_of(path / "git_patch.diff")),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trained_on=read_data(path / "data.json"),
        metrics=read_jsonl(metrics, tolerant=True) if metrics.is_file() else [],
    )


def text_of(path: Path) -> str:
    """The text of a file, which may be absent."""
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""


def read_data(path: Path) -> dict[str, float]:
    """Hours and utterances of the training data; empty where they are unknown."""
    text = text_of(path)
    if not text:
        return {}
    try:
        values = json.loads(text)
        return {key: float(values[key]) for key in ("hours", "utterances")}
    except (ValueError, TypeError, KeyError, RecursionError):
        logger.warning("%s: damaged; the report leaves it out.", path)
        return {}
