"""What many tests need: a tiny corpus, and experiments on it."""

from pathlib import Path

import numpy as np
import soundfile
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from src.datasets.demo_speech import Recipe, make_demo_speech

CONFIGS = Path(__file__).parents[1] / "src" / "configs"
TINY = Recipe(hours=(0.02, 0.006, 0.006), voices=2, noises=7, seed=3)


def tiny_corpus(folder: Path, workers: int = 2) -> Path:
    """Two voices a split, some thirty utterances in all."""
    return make_demo_speech(folder, TINY, workers)


def experiment(name: str, corpus: Path, run_dir: Path, *overrides: str) -> DictConfig:
    """An experiment on the tiny corpus, without pictures and in this process."""
    own = [
        "datasets=demo_mixtures" if name.startswith("separation") else "datasets=demo",
        f"datasets.train.folder={corpus}",
        f"run_dir={run_dir}",
        "dataloader.num_workers=0",
        "writer=nothing",
        "device=cpu",
    ]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(name, overrides=[*own, *overrides], return_hydra_config=False)


SMALL = (
    "model.width=16",
    "model.convolutions.0.channels=4",
    "model.convolutions.1.channels=4",
    "dataloader.max_seconds=12",
)


def sine(path: Path, rate: int = 16000, seconds: float = 1.0, channels: int = 1) -> Path:
    """A file with a 440 Hz tone."""
    time = np.arange(round(rate * seconds)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([tone] * channels, axis=1), rate)
    return path
