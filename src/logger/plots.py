"""Pictures as arrays: uint8 [height, width, 3]."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def new_figure(width: float, height: float) -> Figure:
    """A figure that belongs to no global state; sizes in inches."""
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_array(figure: Figure) -> np.ndarray:
    """What a figure looks like."""
    canvas = figure.canvas
    if not isinstance(canvas, FigureCanvasAgg):
        raise ValueError("plots: the figure is not drawn by Agg.")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def spectrogram_image(spectrogram: Tensor, title: str = "") -> np.ndarray:
    """A spectrogram [F, T], low frequencies at the bottom."""
    figure = new_figure(8, 3)
    axes = figure.subplots()
    values = spectrogram.detach().float().cpu().numpy()
    axes.imshow(values, origin="lower", aspect="auto", interpolation="nearest")
    axes.set(xlabel="frame", ylabel="bin", title=title)
    return to_array(figure)


Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def curves_figure(panels: Mapping[str, Curves], xlabel: str) -> Figure:
    """Curves over one axis.

    Args:
        panels: title -> name of a curve -> (x, y).
        xlabel: below each panel.
    """
    figure = new_figure(5 * len(panels), 3.5)
    for axes, (title, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name, (x, y) in curves.items():
            axes.plot(x, y, label=name)
        axes.set(title=title, xlabel=xlabel)
        axes.grid(alpha=0.3)
        if curves:
            axes.legend()
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure by the ending of the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
