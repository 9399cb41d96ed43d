"""Plot the metrics of a run over time: python scripts/plot_training.py RUN OUT.png."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.utils.entry import run_command
from src.utils.plots import save_figure, training_figure


def main() -> None:
    """Parse the command line and plot."""
    parser = argparse.ArgumentParser(
        description="Plot the metrics of a run over the time of training."
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("out", type=Path, help="image to write")
    parser.add_argument(
        "--panels",
        nargs="+",
        default=[],
        help="metrics, those of one panel joined by commas, e.g. train/loss,val/loss val/WER "
        "(default: the main ones of the task)",
    )
    arguments = parser.parse_args()
    run_command(
        lambda: save_figure(training_figure(arguments.run, arguments.panels), arguments.out)
    )


if __name__ == "__main__":
    main()
