"""Measures of separated signals: means over utterances, as the papers report them."""

import logging
from abc import abstractmethod
from importlib.util import find_spec

import torch
from torch import Tensor
from torchmetrics.functional.audio import signal_distortion_ratio

from src.metrics.base import Metric, ratio
from src.utils.si_sdr import ALIKE, si_sdr

logger = logging.getLogger(__name__)

BEST = 100.0  # dB, beyond which SDR is a matter of rounding
SILENT = -80.0  # dB, of an estimate in which there is nothing


class UtteranceMean(Metric):
    """Mean over utterances of the mean over an utterance's speakers.

    Silent sources, for which no measure is defined, are left out, and so are utterances shorter
    than the measure needs.
    """

    shortest = 1  # sample

    @abstractmethod
    def measure(self, estimates: Tensor, sources: Tensor, audio: Tensor, length: Tensor) -> Tensor:
        """A value of each estimate.

        Args:
            estimates, sources: [B, S, T], in the same order.
            audio: mixtures [B, 1, T].
            length: [B].

        Returns:
            [B, S].
        """

    def update(
        self, estimates: Tensor, sources: Tensor, sources_length: Tensor, audio: Tensor, **batch
    ) -> None:
        """Add a batch whose estimates are in the order of their sources."""
        given = (estimates.float(), sources.float(), audio.float().unsqueeze(1), sources_length)
        values, counted = self.measure(*given).cpu(), self.counted(*given[1:]).cpu()
        for own, there in zip(values, counted, strict=True):
            if there.any():
                self.add("sum", float(own[there].double().mean()))
                self.add("utterances", 1)

    def counted(self, sources: Tensor, audio: Tensor, length: Tensor) -> Tensor:
        """Which values count, [B, S]."""
        return (sources.abs().amax(-1) > 0) & (length >= self.shortest).unsqueeze(1)

    def compute(self) -> dict[str, float]:
        """The mean."""
        return {"": ratio(self.total("sum"), self.total("utterances"))}


class SiSdr(UtteranceMean):
    """Scale-invariant SDR in dB."""

    def measure(self, estimates: Tensor, sources: Tensor, audio: Tensor, length: Tensor) -> Tensor:
        """[B, S]."""
        return si_sdr(estimates, sources, length)


class Improvement(UtteranceMean):
    """How much better an estimate is than the mixture, where that isn't the source already."""

    def counted(self, sources: Tensor, audio: Tensor, length: Tensor) -> Tensor:
        """[B, S]."""
        return super().counted(sources, audio, length) & (si_sdr(audio, sources, length) < ALIKE)


class SiSdrImprovement(Improvement):
    """SI-SDRi: how much better the estimate is than the mixture, in dB."""

    def measure(self, estimates: Tensor, sources: Tensor, audio: Tensor, length: Tensor) -> Tensor:
        """[B, S]."""
        return si_sdr(estimates, sources, length) - si_sdr(audio, sources, length)


class SdrImprovement(Improvement):
    """SDRi: the same of BSS-eval's SDR, which forgives a filter of 512 taps (Vincent et al., 2006).

    Computed by torchmetrics.
    """

    shortest = 512  # samples: the filter itself

    def measure(self, estimates: Tensor, sources: Tensor, audio: Tensor, length: Tensor) -> Tensor:
        """[B, S], each at its own length."""
        values = torch.zeros(estimates.shape[:2])
        for i, size in enumerate(length.tolist()):
            heard = sources[i].any(-1)  # the filter for a silent source does not exist
            own = sources[i, heard, :size].double()
            if heard.any():
                found = distortion_ratios(estimates[i, heard, :size], own)
                before = distortion_ratios(audio[i, :, :size].expand_as(own), own)
                # Not a number: an estimate like its source, to the last bits, or a silent one.
                found, before = (v.nan_to_num(BEST).clamp(SILENT, BEST) for v in (found, before))
                found[~estimates[i, heard, :size].any(-1)] = SILENT
                values[i, heard.cpu()] = (found - before).float().cpu()
        return values


def distortion_ratios(signals: Tensor, sources: Tensor) -> Tensor:
    """SDR in dB of each of several signals [S, T].

    One by one: where several threads solve a batch of such systems, MKL has been seen to fail.
    """
    pairs = zip(signals.double(), sources.double(), strict=True)
    return torch.stack([signal_distortion_ratio(signal, source) for signal, source in pairs])


class FromPackage(UtteranceMean):
    """A measure of torchmetrics that needs a package of its own; without it there is no figure.

    Args:
        sample_rate: of the signals, in Hz.

    Attributes:
        missing: why there is no figure; empty if there is one.
    """

    package = ""
    rates: tuple[int, ...] = ()  # Hz; empty: all

    def __init__(self, sample_rate: int):
        super().__init__()
        name, self.sample_rate, self.missing = type(self).__name__, sample_rate, ""
        if self.rates and sample_rate not in self.rates:
            self.missing = (
                f"{name} knows {' and '.join(map(str, self.rates))} Hz, not {sample_rate}."
            )
        elif find_spec(self.package) is None:
            self.missing = f"No {name}: pip install {self.package} for it."
        if self.missing:
            self.figures = ()
            logger.info(self.missing)

    def update(self, **batch) -> None:
        """Add a batch, if the package is there."""
        if not self.missing:
            super().update(**batch)

    def compute(self) -> dict[str, float]:
        """The mean, if the package is there."""
        return {} if self.missing else super().compute()

    def measure(self, estimates: Tensor, sources: Tensor, audio: Tensor, length: Tensor) -> Tensor:
        """[B, S], each at its own length."""
        values = torch.zeros(estimates.shape[:2])
        for i, size in enumerate(length.tolist()):
            for k in range(estimates.shape[1]):
                if sources[i, k].any():
                    values[i, k] = self.score(estimates[i, k, :size], sources[i, k, :size])
        return values

    @abstractmethod
    def score(self, estimate: Tensor, source: Tensor) -> float:
        """Of two signals [T]."""


class Pesq(FromPackage):
    """Perceptual evaluation of speech quality, wide band at 16 kHz and narrow at 8 kHz."""

    package = "pesq"
    rates = (8000, 16000)

    def score(self, estimate: Tensor, source: Tensor) -> float:
        """Of two signals [T]; of estimates in which it hears nothing, the lowest."""
        from torchmetrics.functional.audio.pesq import (
            perceptual_evaluation_speech_quality as perceived,
        )

        mode = "wb" if self.sample_rate == 16000 else "nb"
        try:
            return float(perceived(estimate.cpu(), source.cpu(), self.sample_rate, mode))
        except Exception as error:  # the package's own kinds: no utterance, less than 1/4 second
            if not any(word in str(error).lower() for word in ("utterance", "second long")):
                raise
            return 1.0


class Stoi(FromPackage):
    """Short-time objective intelligibility."""

    package = "pystoi"

    def score(self, estimate: Tensor, source: Tensor) -> float:
        """Of two signals [T]."""
        from torchmetrics.functional.audio.stoi import short_time_objective_intelligibility as heard

        return float(heard(estimate.cpu(), source.cpu(), self.sample_rate))
