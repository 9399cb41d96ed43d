"""Plot augmented features of a recording: python scripts/plot_augmentation.py AUDIO OUT.png."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from src.config import check_top_level
from src.datasets.loading.collate import collate
from src.transforms.chain import Chain
from src.utils.audio import read_audio
from src.utils.entry import run_command
from src.utils.plots import new_figure, save_figure


def spectrograms(path: Path, experiment: str) -> dict[str, Tensor]:
    """Spectrograms [F, T] of a recording: without augmentation, and augmented with two seeds.

    Args:
        path: of the recording.
        experiment: whose batch transforms are applied.

    Returns:
        Spectrograms by title.

    Raises:
        ValueError: the experiment has no spectrograms, or is one of inference.
    """
    with initialize_config_dir(str(ROOT / "src" / "configs"), version_base="1.3"):
        config = compose(experiment)
    check_top_level(config)
    audio = read_audio(path, config.sample_rate)
    by_title = {}
    for title, use, seed in (
        ("without augmentation", "inference", 0),
        ("augmented, seed 1", "train", 1),
        ("augmented, seed 3", "train", 3),
    ):
        chain = Chain(instantiate(config.transforms.batch[use], _convert_="all"))
        batch = collate([{"id": "audio", "path": "", "seed": seed, "audio": audio}])
        output = chain(**batch)
        if "spectrogram" not in output:
            raise ValueError(f"{experiment}: its transforms compute no spectrogram.")
        by_title[title] = output["spectrogram"][0]
    return by_title


def draw(arguments: argparse.Namespace) -> None:
    """Compute the spectrograms and write the image."""
    by_title = spectrograms(arguments.audio, arguments.config_name)
    figure = new_figure(9, 2 * len(by_title))
    panels = figure.subplots(len(by_title), 1)
    for axes, (title, values) in zip(panels, by_title.items(), strict=True):
        axes.imshow(values.numpy(), origin="lower", aspect="auto", interpolation="nearest")
        axes.set(title=title, ylabel="bin")
    axes.set(xlabel="frame")
    save_figure(figure, arguments.out)


def main() -> None:
    """Parse the command line and plot."""
    parser = argparse.ArgumentParser(
        description="Plot the features of a recording with and without augmentation."
    )
    parser.add_argument("audio", type=Path, help="a recording")
    parser.add_argument("out", type=Path, help="image to write")
    parser.add_argument(
        "-cn",
        "--config-name",
        default="asr_deepspeech2",
        help="experiment (default: asr_deepspeech2)",
    )
    arguments = parser.parse_args()
    run_command(lambda: draw(arguments))


if __name__ == "__main__":
    main()
