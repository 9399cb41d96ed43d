"""Plot the metrics of a run over time: python scripts/plot_training.py RUN OUT.png."""

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
    """Times in minutes and values of a metric.

    Args:
        rows: of metrics.jsonl.
        name: of the metric, e.g. `val/WER`.

    Raises:
        ValueError: the run has no such metric; lists those that it has.
    """
    with_metric = [row for row in rows if name in row]
    if not with_metric:
        names = sorted({key for row in rows for key in row if "/" in key})
        raise ValueError(f"no metric '{name}'; the run has {', '.join(names) or 'none'}.")
    return [row["time"] / 60 for row in with_metric], [row[name] for row in with_metric]


def draw(arguments: argparse.Namespace) -> None:
    """Read the metrics and write the image."""
    path = arguments.run / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; is {arguments.run} a run?")
    rows = read_jsonl(path, tolerant=True)
    if not arguments.panels:
        names = {key for row in rows for key in row}
        available = [panel for panel in PANELS if set(panel.split(",")) <= names]
        arguments.panels = available or PANELS[:1]
    panels: dict[str, Curves] = {
        panel: {name: read_curve(rows, name) for name in panel.split(",")}
        for panel in arguments.panels
    }
    save_figure(curves_figure(panels, "minutes"), arguments.out)


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
        help="metrics, those of one panel joined by commas, e.g. train/loss,val/loss val/WER "
        "(default: the main ones of the task)",
    )
    arguments = parser.parse_args()
    run_command(lambda: draw(arguments))


if __name__ == "__main__":
    main()
