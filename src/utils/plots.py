"""Plots, as matplotlib figures and as images: uint8 arrays [height, width, 3]."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from torch import Tensor

from src.utils.files import read_jsonl, write_beside

TRAINING_PANELS = (  # of the tasks; those that a run has are plotted
    "train/loss,val/loss",
    "val/WER,val/CER",
    "val/accuracy,val/accuracy_majority",
    "val/SI-SDRi",
)


def new_figure(width: float, height: float) -> Figure:
    """An empty matplotlib figure outside of pyplot's global state; sizes in inches."""
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_array(figure: Figure) -> np.ndarray:
    """Image of a figure.

    Raises:
        ValueError: the figure was not made by `new_figure`.
    """
    canvas = figure.canvas
    if not isinstance(canvas, FigureCanvasAgg):
        raise ValueError(f"plots: a figure on {type(canvas).__name__}; it must be on Agg.")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def spectrogram_image(spectrogram: Tensor, title: str = "") -> np.ndarray:
    """Image of a spectrogram [F, T], with low frequencies at the bottom."""
    figure = new_figure(8, 3)
    axes = figure.subplots()
    values = spectrogram.detach().float().cpu().numpy()
    axes.imshow(values, origin="lower", aspect="auto", interpolation="nearest")
    axes.set(xlabel="frame", ylabel="bin", title=title)
    return to_array(figure)


Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def curves_figure(panels: Mapping[str, Curves], xlabel: str) -> Figure:
    """Figure with curves in panels side by side.

    Args:
        panels: title of the panel -> name of a curve -> (x, y).
        xlabel: label of the x axis of each panel.
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


def training_figure(run: Path, panels: Sequence[str] = ()) -> Figure:
    """Figure with the metrics of a run over the time of training, in minutes.

    Args:
        run: its folder.
        panels: names of metrics, those of one panel joined by commas, e.g. `train/loss,val/loss`;
            none: the main ones of the task.

    Raises:
        FileNotFoundError: the folder has no metrics.jsonl.
        ValueError: the run has no such metric; lists those that it has.
    """
    path = Path(run) / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; is {run} a run?")
    rows = read_jsonl(path, tolerant=True)
    names = {key for row in rows for key in row}
    main = [panel for panel in TRAINING_PANELS if set(panel.split(",")) <= names]
    curves: dict[str, Curves] = {
        panel: {name: read_curve(rows, name) for name in panel.split(",")}
        for panel in panels or main or TRAINING_PANELS[:1]
    }
    return curves_figure(curves, "minutes")


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


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's suffix, e.g. .png or .pdf."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def save_image(image: np.ndarray, path: Path) -> None:
    """Write an image as PNG."""
    with write_beside(path) as beside:
        imsave(beside, image, format="png")


def masked_tokens_image(
    spectrogram: Tensor, ssl_mask: Tensor, tokens: Tensor, masked: Tensor, predictions: Tensor
) -> np.ndarray:
    """Image of a spectrogram with its mask, and below it the tokens and their predictions.

    Args:
        spectrogram: [F, T].
        ssl_mask: [M], True at masked frames; M is the number of frames or of tokens.
        tokens: [T'].
        masked: [T'], True at the N tokens to predict.
        predictions: [N].
    """
    figure = new_figure(10, 4.5)
    upper, middle, lower = figure.subplots(3, 1, height_ratios=(6, 0.5, 3))
    values = spectrogram.float().numpy()
    upper.imshow(values, origin="lower", aspect="auto", interpolation="nearest")
    upper.set(ylabel="bin", title="spectrogram before masking")
    middle.imshow(ssl_mask.numpy()[None], aspect="auto", interpolation="nearest", cmap="Greys")
    middle.set(xticks=[], yticks=[], ylabel="mask")
    positions = np.arange(len(tokens))
    lower.plot(positions, tokens.numpy(), ".", color="0.6", label="tokens")
    x, targets = positions[masked.numpy()], tokens[masked].numpy()
    correct = predictions.numpy() == targets
    lower.plot(x[~correct], targets[~correct], "x", color="tab:red", label="masked, incorrect")
    lower.plot(x[correct], targets[correct], "o", color="tab:green", label="masked, correct")
    lower.set(xlim=(-0.5, len(tokens) - 0.5), xlabel="position", ylabel="token")
    lower.legend(loc="upper right", fontsize="small")
    return to_array(figure)


def power_spectrogram(signal: Tensor, size: int = 256) -> Tensor:
    """Power spectrogram in dB of a signal, for plots.

    Args:
        signal: [T].
        size: of the FFT and its window, in samples; the hop is half of it.

    Returns:
        [size / 2 + 1, T'].
    """
    padded = torch.nn.functional.pad(signal, (0, max(0, size - len(signal))))
    window = torch.hann_window(size)
    power = torch.stft(padded, size, size // 2, window=window, return_complex=True).abs().square()
    return 10 * torch.log10(power + 1e-8)


def signals_image(panels: Mapping[str, Tensor]) -> np.ndarray:
    """Image of spectrograms or masks, title -> [F, T], one below the other."""
    figure = new_figure(8, 1.6 * len(panels))
    for axes, (title, values) in zip(
        figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True
    ):
        axes.imshow(values.numpy(), origin="lower", aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[], ylabel=title.replace("_", " "))
    return to_array(figure)


def scatter_image(x: Sequence[float], y: Sequence[float], xlabel: str, ylabel: str) -> np.ndarray:
    """Image of a scatter plot, with a histogram of the y values beside it."""
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2, width_ratios=(2, 1), sharey=True)
    left.plot(x, y, ".", alpha=0.6)
    left.set(xlabel=xlabel, ylabel=ylabel)
    right.hist(y, bins=30, orientation="horizontal")
    right.axhline(float(np.mean(y)), color="tab:red", label=f"mean {np.mean(y):.2f}")
    right.set(xlabel="utterances")
    right.legend()
    return to_array(figure)
