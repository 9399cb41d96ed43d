"""Metrics of separation that need no references."""

import contextlib
import filecmp
import logging
import math
import shutil
from abc import abstractmethod
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.metrics.base import MeanScore, ratio
from src.utils.files import write_beside

logger = logging.getLogger(__name__)

LOWEST = -80.0  # dB, about what is left of rounding
PIECE = 30  # seconds that are rated at once
SHORTEST = 0.5  # seconds
AUDIBLE = 1e-3  # RMS level of a piece that is rated
SPEECHMOS_WEIGHTS = ("model_v8.onnx", "sig_bak_ovr.onnx")  # in its folder dnsmos_models


class NonIntrusive(MeanScore):
    """Mean over utterances of a score without references.

    Attributes:
        needs_targets: False.
    """

    needs_targets = False


class Leakage(NonIntrusive):
    """How much of one estimate is in another, in dB: their squared correlation.

    If estimate 2 is voice 2 and g times voice 1, which are independent, that is the energy of g
    times voice 1 relative to all of estimate 2. The mean over pairs of estimates that aren't
    silent; without such a pair an utterance has no score.
    """

    higher_is_better = False

    def update(self, signal_products: Any, rows: list[dict[str, Any]], **_) -> list[float | None]:
        """Add a batch.

        Args:
            signal_products: scalar products of mixture and estimates, [B, 1 + S, 1 + S] or a list
                of [1 + S, 1 + S].
            rows: of each utterance `active_1`, `active_2`, ..., whether an estimate isn't silent.

        Returns:
            The leakage of each utterance in dB, at least -80.
        """
        pairs = zip(signal_products, rows, strict=True)
        return self.add_scores([leakage(one.double().cpu(), active(row)) for one, row in pairs])


def active(row: dict[str, Any]) -> list[int]:
    """Numbers of the estimates that aren't silent, from 1, of a row of the table of utterances."""
    return [k for k in range(1, len(row) + 1) if row.get(f"active_{k}")]


def leakage(products: Tensor, chosen: list[int]) -> float | None:
    """Mean squared correlation of some estimates, in dB; None for fewer than two.

    Args:
        products: [1 + S, 1 + S], the mixture first.
        chosen: numbers of the estimates, from 1.
    """
    energy = products.diagonal()
    pairs = [(i, j) for i in chosen for j in chosen if i < j]
    if not pairs:
        return None
    shared = [float(products[i, j] ** 2 / (energy[i] * energy[j])) for i, j in pairs]
    return decibels(sum(shared) / len(shared))


class Residual(NonIntrusive):
    """Energy of what the estimates leave of the mixture, relative to the mixture, in dB.

    The estimates have the gains with which least is left (least squares), so that their own level
    doesn't count. Noise that a model removes is left over, too.
    """

    higher_is_better = False

    def update(self, signal_products: Any, **_) -> list[float | None]:
        """Add a batch.

        Args:
            signal_products: scalar products of mixture and estimates, [B, 1 + S, 1 + S] or a list
                of [1 + S, 1 + S].

        Returns:
            What is left of each utterance in dB, at least -80; None for a silent mixture.
        """
        return self.add_scores([residual(one.double().cpu()) for one in signal_products])


def residual(products: Tensor) -> float | None:
    """Energy that no sum of scaled estimates explains, relative to the mixture's, in dB.

    Args:
        products: [1 + S, 1 + S], the mixture first.
    """
    energy = float(products[0, 0])
    if energy <= 0:
        return None
    with_mixture = products[1:, :1]
    gains = torch.linalg.pinv(products[1:, 1:], hermitian=True) @ with_mixture
    return decibels(1 - float(with_mixture.T @ gains) / energy)


def decibels(fraction: float) -> float:
    """A fraction of energy in dB, at least `LOWEST`."""
    return max(LOWEST, 10 * math.log10(max(fraction, 1e-30)))


class OpinionScore(NonIntrusive):
    """Mean opinion score that a network of torchmetrics estimates, 1 (bad) to 5.

    The mean over the estimates that are active, of which pieces of 30 s are rated. The metric is
    left out, with a sentence in the log, without its packages or its weights, which torchmetrics
    downloads on first use unless an installed package has them.

    Args:
        sample_rate: of the signals, in Hz; recordings have their own.

    Attributes:
        packages: that the network needs.
        weights: folder to which torchmetrics downloads the network.
        remedy: how to get weights that can't be downloaded.
        unavailable: why the metric can't be computed; empty if it can.
    """

    higher_is_better = True
    packages: tuple[str, ...] = ()
    weights = ""
    remedy = "copy them there from another computer"

    def __init__(self, sample_rate: int):
        super().__init__()
        self.sample_rate, self.unavailable, self.tried = sample_rate, "", False
        if any(find_spec(package) is None for package in self.packages):
            self.leave_out(f"needs `pip install {' '.join(self.packages)}`")

    @abstractmethod
    def rate(self, signal: Tensor, sample_rate: int) -> list[float]:
        """The values of a signal [T], the first one overall, in the order of `values`."""

    def install_weights(self) -> None:
        """Put the weights where torchmetrics looks for them, if an installed package has them."""

    def leave_out(self, reason: str) -> None:
        """Compute nothing any more, and log why."""
        self.unavailable = f"{type(self).__name__}: {reason}."
        self.values = ()
        logger.warning("%s It is left out.", self.unavailable)

    def update(self, rows: list[dict[str, Any]], **batch) -> list[float | None] | None:
        """Add a batch, if the metric is available.

        Args:
            rows: of each utterance `active_1`, `active_2`, ..., whether an estimate isn't silent.
            batch: `estimates_written` [B, S, T] and its length [B]; or `separated`, recordings
                with a `sample_rate` and `blocks(frames)`, which gives [t, S].

        Returns:
            The score of each utterance, None without speech; None if the metric is unavailable.
        """
        if not self.unavailable and not self.tried:
            self.try_network()
        if self.unavailable:
            return None
        scores: list[float | None] = []
        for item, row in enumerate(rows):
            chosen = [k - 1 for k in active(row)]
            rated = [
                (estimates.shape[1], self.rate(piece, sample_rate))
                for estimates, sample_rate in self.pieces(item, batch)
                for piece in estimates[chosen]
                if piece.square().mean().sqrt() > AUDIBLE
            ]
            scores.append(self.add_item(rated))
        return scores

    def try_network(self) -> None:
        """Rate noise, by which the weights are downloaded where they aren't yet."""
        self.tried = True
        noise = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
        with contextlib.suppress(OSError, ValueError):  # the weights may be there all the same
            self.install_weights()
        try:
            self.rate(noise, 16000)
        except Exception as error:  # of the net, of the file, or of the library that reads it
            self.leave_out(
                f"its weights can't be fetched, or read from {self.weights} "
                f"({type(error).__name__}); {self.remedy}"
            )

    def add_item(self, rated: list[tuple[int, list[float]]]) -> float | None:
        """Add the means over the pieces of an utterance.

        Args:
            rated: number of samples and values of each piece, by the first of which it is weighed.

        Returns:
            The mean of the main value; None without pieces.
        """
        if not rated:
            return None
        total = sum(size for size, _ in rated)
        means = [
            math.fsum(size * value for (size, _), value in zip(rated, own, strict=True)) / total
            for own in zip(*(values for _, values in rated), strict=True)
        ]
        for name, mean in zip(self.values, means, strict=True):
            self.add(name, mean)
        self.add("utterances", 1)
        return means[0]

    def pieces(self, item: int, batch: dict[str, Any]) -> Iterator[tuple[Tensor, int]]:
        """Pieces [S, t] of an utterance with their sample rate, those long enough to be rated."""
        if "separated" in batch:
            recording = batch["separated"][item]
            rate = recording.sample_rate
            blocks = (torch.from_numpy(one.T.copy()) for one in recording.blocks(PIECE * rate))
        else:
            rate = self.sample_rate
            size = int(batch["estimates_written_length"][item])
            estimates = batch["estimates_written"][item, :, :size].float().cpu()
            blocks = iter(estimates.split(PIECE * rate, 1))
        yield from ((one, rate) for one in blocks if one.shape[1] >= SHORTEST * rate)

    def compute(self) -> dict[str, float]:
        """The means over all utterances that have a score; empty if none has."""
        if "utterances" not in self.terms:
            return {}
        return {name: ratio(self.total(name), self.total("utterances")) for name in self.values}


class DnsMos(OpinionScore):
    """DNSMOS P.835 (Reddy et al., arXiv 2110.01763), with P.808's score (arXiv 2010.15258).

    The main value is the overall quality; others are that of the voice (`signal`), of what is
    around it (`background`), and `p808`. It rates 16 kHz, so that speech of 8 kHz loses points.
    Microsoft's package speechmos has the weights, so that with it nothing is downloaded.
    """

    values = ("", "signal", "background", "p808")
    packages = ("librosa", "onnxruntime", "requests")
    weights = "~/.torchmetrics/DNSMOS"
    remedy = "pip install speechmos, which has them, or copy them there from another computer"

    def install_weights(self) -> None:
        """Copy the weights from speechmos, if it is installed, where they are missing or damaged.

        Raises:
            OSError: they can't be written.
        """
        package = find_spec("speechmos")
        if package is None or package.origin is None:
            return
        for name in SPEECHMOS_WEIGHTS:
            source = Path(package.origin).parent / "dnsmos_models" / name
            target = Path(self.weights).expanduser() / "DNSMOS" / name
            if not source.is_file():
                continue
            if not (target.is_file() and filecmp.cmp(source, target, shallow=False)):
                target.parent.mkdir(parents=True, exist_ok=True)
                with write_beside(target) as path:
                    shutil.copyfile(source, path)

    def rate(self, signal: Tensor, sample_rate: int) -> list[float]:
        """Overall, signal, background and P.808's score of a signal [T]."""
        from torchmetrics.functional.audio.dnsmos import (
            deep_noise_suppression_mean_opinion_score as dnsmos,
        )

        p808, voice, background, overall = dnsmos(signal, sample_rate, False).tolist()
        return [overall, voice, background, p808]


class Nisqa(OpinionScore):
    """NISQA 2.0 (Mittag et al., arXiv 2104.09494).

    The main value is the overall quality; the others are its four dimensions, where 5 is best.
    """

    values = ("", "noisiness", "discontinuity", "coloration", "loudness")
    packages = ("librosa", "requests")
    weights = "~/.torchmetrics/NISQA"

    def rate(self, signal: Tensor, sample_rate: int) -> list[float]:
        """Overall quality, noisiness, discontinuity, coloration and loudness of a signal [T]."""
        from torchmetrics.functional.audio.nisqa import (
            non_intrusive_speech_quality_assessment as nisqa,
        )

        return nisqa(signal, sample_rate).tolist()
