"""Shared by many tests: a tiny corpus, experiments on it, inference and scripts."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from src.datasets.demo.speech import Recipe, make_demo_speech

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "src" / "configs"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
DATASETS = {
    "probe_speaker": "demo_speakers",
    "probe_keyword": "demo_keywords",
    "enhancement_mossformer2": "demo_noisy",
}
TINY = Recipe(hours=(0.02, 0.006, 0.006), voices=2, noises=7, seed=3)


def tiny_corpus(folder: Path, workers: int = 2) -> Path:
    """Two voices a split, some thirty utterances in all."""
    return make_demo_speech(folder, TINY, workers)


def experiment(name: str, corpus: Path, run_dir: Path, *overrides: str) -> DictConfig:
    """An experiment on the tiny corpus, without pictures and in this process."""
    mixtures = name.startswith("separation")
    own = [
        f"datasets={DATASETS.get(name) or ('demo_mixtures' if mixtures else 'demo')}",
        f"datasets.train.folder={corpus}",
        f"run_dir={run_dir}",
        "dataloader.num_workers=0",
        "writer=nothing",
        "device=cpu",
    ]
    return composed(name, *own, *overrides)


def composed(name: str, *overrides: str) -> DictConfig:
    """A config of src/configs."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(name, overrides=list(overrides), return_hydra_config=False)


SMALL = (
    "model.hidden_size=16",
    "model.convolutions.0.out_channels=4",
    "model.convolutions.1.out_channels=4",
    "dataloader.max_seconds=12",
)


def sine(path: Path, rate: int = 16000, seconds: float = 1.0, channels: int = 1) -> Path:
    """A file with a 440 Hz tone."""
    time = np.arange(round(rate * seconds)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 440 * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([tone] * channels, axis=1), rate)
    return path


def inference(name: str, run_dir: Path, *overrides: str) -> dict[str, float]:
    """Metrics of the inference experiment `inference_<name>` on a run, in this process."""
    from inference import infer

    return infer(composed(f"inference_{name}", f"run={run_dir}", *overrides))


def export_arguments(run: Path, out: Path, *options: object) -> argparse.Namespace:
    """Arguments of scripts/export.py, by default to compare the outputs of three utterances."""
    from scripts.export import make_parser

    command = (run, out, "--check=outputs", "--limit=3", *options)
    return make_parser().parse_args([str(one) for one in command])


def run_script(name: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess:
    """The finished process of a script, which must exit with a code."""
    command = [sys.executable, f"scripts/{name}.py", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr[-3000:]
    return done
