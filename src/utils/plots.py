"""Pictures as arrays: uint8 [height, width, 3]."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from torch import Tensor

from src.utils.files import write_beside


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


def save_image(image: np.ndarray, path: Path) -> None:
    """Write a picture as PNG."""
    with write_beside(path) as beside:
        imsave(beside, image, format="png")


def masked_tokens_image(
    spectrogram: Tensor, mask: Tensor, tokens: Tensor, hidden: Tensor, guesses: Tensor
) -> np.ndarray:
    """A spectrogram with its masked blocks, and below it the tokens.

    Args:
        spectrogram: [F, T].
        mask: [M], True at masked frames; M may be the number of tokens.
        tokens: [T'].
        hidden: [T'], True at tokens that were to be predicted.
        guesses: [hidden.sum()], what was predicted there.
    """
    figure = new_figure(10, 4.5)
    upper, middle, lower = figure.subplots(3, 1, height_ratios=(6, 0.5, 3))
    values = spectrogram.float().numpy()
    upper.imshow(values, origin="lower", aspect="auto", interpolation="nearest")
    upper.set(ylabel="bin", title="what the encoder would see without a mask")
    middle.imshow(mask.numpy()[None], aspect="auto", interpolation="nearest", cmap="Greys")
    middle.set(xticks=[], yticks=[], ylabel="mask")
    places = np.arange(len(tokens))
    lower.plot(places, tokens.numpy(), ".", color="0.6", label="tokens")
    where, truth = places[hidden.numpy()], tokens[hidden].numpy()
    right = guesses.numpy() == truth
    lower.plot(where[~right], truth[~right], "x", color="tab:red", label="masked, guessed wrong")
    lower.plot(where[right], truth[right], "o", color="tab:green", label="masked, guessed right")
    lower.set(xlim=(-0.5, len(tokens) - 0.5), xlabel="token", ylabel="class")
    lower.legend(loc="upper right", fontsize="small")
    return to_array(figure)


def magnitudes(signal: Tensor, size: int = 256) -> Tensor:
    """A spectrogram [F, T'] of a signal [T], in dB, to be looked at."""
    padded = torch.nn.functional.pad(signal, (0, max(0, size - len(signal))))
    window = torch.hann_window(size)
    power = torch.stft(padded, size, size // 2, window=window, return_complex=True).abs().square()
    return 10 * torch.log10(power + 1e-8)


def signals_image(pictures: Mapping[str, Tensor]) -> np.ndarray:
    """Spectrograms or masks [F, T] below each other."""
    figure = new_figure(8, 1.6 * len(pictures))
    for axes, (title, values) in zip(
        figure.subplots(len(pictures), 1, squeeze=False)[:, 0], pictures.items(), strict=True
    ):
        axes.imshow(values.numpy(), origin="lower", aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[], ylabel=title.replace("_", " "))
    return to_array(figure)


def scatter_image(x: Sequence[float], y: Sequence[float], xlabel: str, ylabel: str) -> np.ndarray:
    """Points, and how their heights are distributed."""
    figure = new_figure(9, 4)
    left, right = figure.subplots(1, 2, width_ratios=(2, 1), sharey=True)
    left.plot(x, y, ".", alpha=0.6)
    left.set(xlabel=xlabel, ylabel=ylabel)
    right.hist(y, bins=30, orientation="horizontal")
    right.axhline(float(np.mean(y)), color="tab:red", label=f"mean {np.mean(y):.2f}")
    right.set(xlabel="utterances")
    right.legend()
    return to_array(figure)
