"""Plot the learned weights of layers: python scripts/plot_layer_weights.py RUN OUT.png."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.models.encoder_ctc import EncoderCTC
from src.models.probes import FrozenEncoder
from src.run import load_run
from src.utils.entry import run_command
from src.utils.plots import new_figure, save_figure


def draw(arguments: argparse.Namespace) -> None:
    """Print the layer weights of a run and write a bar chart.

    Raises:
        ValueError: the run's model has no weighted sum of layers.
    """
    model = load_run(arguments.run, device="cpu").model
    scores = model.layer_scores if isinstance(model, FrozenEncoder | EncoderCTC) else None
    if scores is None:
        raise ValueError(
            f"{arguments.run}: holds {type(model).__name__}; wanted a probe, or EncoderCTC with "
            "weighted_sum."
        )
    weights = scores.softmax(0).tolist()
    names = ["input", *(str(i) for i in range(1, len(weights)))]
    for name, weight in zip(names, weights, strict=True):
        print(f"{name:>6}{weight:>8.3f}")
    figure = new_figure(6, 3)
    axes = figure.subplots()
    axes.bar(names, weights)
    axes.set(xlabel="layer", ylabel="weight", title="Layer weights")
    save_figure(figure, arguments.out)


def main() -> None:
    """Parse the command line and plot."""
    parser = argparse.ArgumentParser(
        description="Plot the learned weight of each encoder layer of a recogniser."
    )
    parser.add_argument("run", type=Path, help="run of a probe, or with model.weighted_sum")
    parser.add_argument("out", type=Path, help="image to write")
    arguments = parser.parse_args()
    run_command(lambda: draw(arguments))


if __name__ == "__main__":
    main()
