"""Draw what a model gets: python scripts/plot_augmentation.py AUDIO OUT.png [-cn NAME]."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from src import build
from src.datasets.collate import collate
from src.utils.audio import read_audio
from src.utils.entry import run_command
from src.utils.plots import new_figure, save_figure


def spectrograms(audio: Tensor, experiment: str) -> dict[str, Tensor]:
    """The spectrogram [F, T] of a recording in inference, and in training for two seeds."""
    with initialize_config_dir(str(ROOT / "src" / "configs"), version_base="1.3"):
        config = compose(experiment)
    chains = build.build_transforms(config, torch.device("cpu"))
    found = {}
    for title, use, seed in (
        ("as it is", "inference", 0),
        ("augmented", "train", 1),
        ("augmented, another epoch", "train", 3),
    ):
        batch = collate([{"id": "audio", "path": "", "seed": seed, "audio": audio}])
        found[title] = chains[use](**batch)["spectrogram"][0]
    return found


def draw(arguments: argparse.Namespace) -> None:
    """Read the recording and write the picture."""
    audio = read_audio(arguments.audio, 16000)
    found = spectrograms(audio, arguments.config_name)
    figure = new_figure(9, 2 * len(found))
    for axes, (title, values) in zip(figure.subplots(len(found), 1), found.items(), strict=True):
        axes.imshow(values.numpy(), origin="lower", aspect="auto", interpolation="nearest")
        axes.set(title=title, ylabel="mel band")
    axes.set(xlabel="frame (10 ms)")
    save_figure(figure, arguments.out)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Draw what a model gets in training.")
    parser.add_argument("audio", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("-cn", "--config-name", default="asr_deepspeech2")
    arguments = parser.parse_args()
    run_command(lambda: draw(arguments))


if __name__ == "__main__":
    main()
