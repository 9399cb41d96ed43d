"""Draw the curves of a run: python scripts/plot_training.py RUN OUT.png."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.utils.entry import run_command
from src.utils.files import read_jsonl
from src.utils.plots import Curves, curves_figure, save_figure

PANELS = (
    "train/loss,val/loss",
    "val/WER,val/CER",
    "val/accuracy,val/accuracy_majority",
    "val/SI-SDRi",
)


def read_curve(rows: list[dict], name: str) -> tuple[list[float], list[float]]:
    """Minutes and values of one figure.

    Raises:
        ValueError: the run has no such figure; names those that it has.
    """
    found = [row for row in rows if name in row]
    if not found:
        names = sorted({key for row in rows for key in row if "/" in key})
        raise ValueError(f"no figure is called '{name}'; there are {', '.join(names)}.")
    return [row["time"] / 60 for row in found], [row[name] for row in found]


def draw(arguments: argparse.Namespace) -> None:
    """Read the figures and write the picture."""
    path = arguments.run / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; is {arguments.run} a run?")
    rows = read_jsonl(path)
    if not arguments.panels:
        there = {key for row in rows for key in row}
        found = [panel for panel in PANELS if set(panel.split(",")) <= there]
        arguments.panels = found or PANELS[:1]
    panels: dict[str, Curves] = {
        panel: {name: read_curve(rows, name) for name in panel.split(",")}
        for panel in arguments.panels
    }
    save_figure(curves_figure(panels, "minutes"), arguments.out)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Draw the curves of a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--panels",
        nargs="+",
        help="names of figures, those of one panel joined by commas; by default those of its task",
    )
    arguments = parser.parse_args()
    run_command(lambda: draw(arguments))


if __name__ == "__main__":
    main()
