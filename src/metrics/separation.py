"""Metrics of source separation: means over utterances, as reported in papers."""

import logging
import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import torch
from torch import Tensor

from src.metrics.base import MeanScore
from src.utils.si_sdr import IDENTICAL_DB, si_sdr

logger = logging.getLogger(__name__)

MAX_SDR = 100.0  # dB, above which SDR measures only rounding errors
MIN_SDR = -80.0  # dB, of a silent estimate
STOI_FRAME = 0.0257  # seconds, of which pystoi makes its first frame (257 samples at 10 kHz)


@dataclass
class Separated:
    """The signals of a batch, with the SI-SDR that its task has computed already, if any.

    Attributes:
        estimates: [B, S, T], in the order of the sources.
        sources: references [B, S, T].
        audio: mixtures [B, 1, T].
        length: [B], in samples.
        given: `estimates_si_sdr` and `mixture_si_sdr`, both [B, S]; what is missing is computed.
    """

    estimates: Tensor
    sources: Tensor
    audio: Tensor
    length: Tensor
    given: dict[str, Tensor]

    @cached_property
    def estimates_si_sdr(self) -> Tensor:
        """SI-SDR of each estimate in dB: [B, S]."""
        if "estimates_si_sdr" in self.given:
            return self.given["estimates_si_sdr"]
        return si_sdr(self.estimates, self.sources, self.length)

    @cached_property
    def mixture_si_sdr(self) -> Tensor:
        """SI-SDR of the mixture for each source in dB: [B, S]."""
        if "mixture_si_sdr" in self.given:
            return self.given["mixture_si_sdr"]
        return si_sdr(self.audio, self.sources, self.length)


class UtteranceMean(MeanScore):
    """Mean over utterances of the mean over the sources of an utterance.

    Sources for which the measure is undefined are left out: silent ones, and those of utterances
    that are shorter than `min_length`. An utterance without any other source has no score.

    Args:
        by_number: whether there is also a mean for each number of speakers, i.e. of sources that
            aren't silent; its suffix is the number.

    Attributes:
        min_length: number of samples that the measure needs.
    """

    higher_is_better = True
    min_length = 1

    def __init__(self, by_number: bool = False):
        super().__init__()
        self.by_number = by_number

    @abstractmethod
    def measure(self, signals: Separated) -> Tensor:
        """Value of each estimate: [B, S]."""

    def update(
        self, estimates: Tensor, sources: Tensor, sources_length: Tensor, audio: Tensor, **batch
    ) -> list[float | None]:
        """Add a batch.

        Args:
            estimates: [B, S, T], in the order of the sources.
            sources: references [B, S, T].
            sources_length: [B], in samples.
            audio: mixtures [B, T].
            batch: `estimates_si_sdr` and `mixture_si_sdr` [B, S] in dB, if the task has computed
                them.

        Returns:
            The mean over the sources of each utterance, None where none of them counts.
        """
        audio = audio.float().unsqueeze(1)
        signals = Separated(estimates.float(), sources.float(), audio, sources_length, batch)
        values, defined = self.measure(signals).cpu(), self.defined(signals).cpu()
        scores: list[float | None] = []
        for own, counted in zip(values, defined, strict=True):
            scores.append(float(own[counted].double().mean()) if counted.any() else None)
        return self.add_scores(scores, speaker_counts(sources) if self.by_number else None)

    def defined(self, signals: Separated) -> Tensor:
        """Which sources count: bool [B, S]."""
        long_enough = (signals.length >= self.min_length).unsqueeze(1)
        return speaking(signals.sources) & long_enough


def speaking(sources: Tensor) -> Tensor:
    """Which of the sources [B, S, T] aren't silent: bool [B, S]."""
    return sources.abs().amax(-1) > 0


def speaker_counts(sources: Tensor) -> list[int]:
    """How many of the sources [B, S, T] of each utterance aren't silent."""
    return speaking(sources).sum(1).tolist()


class SiSdr(UtteranceMean):
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., arXiv 1811.02508)."""

    def measure(self, signals: Separated) -> Tensor:
        """SI-SDR of each estimate in dB: [B, S]."""
        return signals.estimates_si_sdr


class Improvement(UtteranceMean):
    """Value of an estimate minus that of the mixture.

    Sources that equal their mixture are ignored: they can't be improved.
    """

    def defined(self, signals: Separated) -> Tensor:
        """Which sources count: bool [B, S]."""
        return super().defined(signals) & ~(signals.mixture_si_sdr >= IDENTICAL_DB)


class SiSdrImprovement(Improvement):
    """SI-SDRi in dB: SI-SDR of the estimate minus SI-SDR of the mixture."""

    def measure(self, signals: Separated) -> Tensor:
        """SI-SDRi of each estimate in dB: [B, S]."""
        return signals.estimates_si_sdr - signals.mixture_si_sdr


class SdrImprovement(Improvement):
    """SDRi in dB: BSS-eval's SDR of the estimate minus SDR of the mixture.

    This SDR allows for a distortion by a filter of 512 taps (Vincent et al., "Performance
    Measurement in Blind Audio Source Separation", 2006). Computed by torchmetrics.
    """

    min_length = 512  # taps of the filter

    def measure(self, signals: Separated) -> Tensor:
        """SDRi of each estimate in dB, each over the length of its utterance: [B, S]."""
        values = torch.zeros(signals.estimates.shape[:2])
        for i, size in enumerate(signals.length.tolist()):
            active = signals.sources[i].any(-1)  # there is no filter for a silent source
            if active.any():
                references = signals.sources[i, active, :size].double()
                own = signals.estimates[i, active, :size]
                mixture = signals.audio[i, :, :size].expand_as(references)
                gain = bounded_sdr(own, references) - bounded_sdr(mixture, references)
                values[i, active.cpu()] = gain.float().cpu()
        return values


def bounded_sdr(signals: Tensor, references: Tensor) -> Tensor:
    """BSS-eval's SDR of each signal, between MIN_SDR and MAX_SDR.

    The signals are scored one by one: MKL has been seen to fail where several threads solve a batch
    of such systems.

    Args:
        signals, references: [S, T].

    Returns:
        [S], in dB; NaN for a signal that isn't finite.
    """
    # Imported here since it takes seconds, and trainings don't compute SDR.
    from torchmetrics.functional.audio import signal_distortion_ratio

    pairs = zip(signals.double(), references.double(), strict=True)
    sdr = torch.stack([signal_distortion_ratio(*pair) for pair in pairs])
    # NaN for a signal that equals its reference up to rounding, and for a silent one.
    sdr = sdr.nan_to_num(MAX_SDR).clamp(MIN_SDR, MAX_SDR)
    sdr = sdr.masked_fill(~signals.any(-1), MIN_SDR)
    return sdr.masked_fill(~signals.isfinite().all(-1), float("nan"))


class PackageMetric(UtteranceMean):
    """A metric of torchmetrics that needs a further package, without which it has no values.

    Args:
        sample_rate: of the signals, in Hz.
        by_number: of `UtteranceMean`.

    Attributes:
        package: name of the package.
        sample_rates: supported sample rates in Hz; empty if all are.
        unavailable: why the metric can't be computed; empty if it can.
    """

    package = ""
    sample_rates: tuple[int, ...] = ()

    def __init__(self, sample_rate: int, by_number: bool = False):
        super().__init__(by_number)
        self.sample_rate, self.unavailable = sample_rate, ""
        name = type(self).__name__
        if self.sample_rates and sample_rate not in self.sample_rates:
            supported = " or ".join(map(str, self.sample_rates))
            self.unavailable = f"{name}: sample_rate {sample_rate} Hz, not {supported} Hz."
        elif find_spec(self.package) is None:
            self.unavailable = f"{name}: needs `pip install {self.package}`."
        if self.unavailable:
            self.values = ()
            logger.info("%s It is left out.", self.unavailable)

    def update(self, **batch) -> list[float | None] | None:
        """Add a batch, if the metric is available.

        Args:
            batch: `estimates` and `sources` [B, S, T] in the same order, `sources_length` [B], and
                the mixtures `audio` [B, T].

        Returns:
            The mean over the sources of each utterance, None where none of them counts; None if
            the metric is unavailable.
        """
        return None if self.unavailable else super().update(**batch)

    def compute(self) -> dict[str, float]:
        """The mean over all utterances; empty if the metric is unavailable."""
        return {} if self.unavailable else super().compute()

    def measure(self, signals: Separated) -> Tensor:
        """Value of each estimate, each over the length of its utterance: [B, S]."""
        estimates, sources = signals.estimates.cpu(), signals.sources.cpu()
        values = torch.zeros(estimates.shape[:2])
        for i, k in self.defined(signals).nonzero().tolist():
            size = int(signals.length[i])
            values[i, k] = self.measure_signal(estimates[i, k, :size], sources[i, k, :size])
        return values

    @abstractmethod
    def measure_signal(self, estimate: Tensor, source: Tensor) -> float:
        """Value of one estimate [T] for its source [T]."""


class Pesq(PackageMetric):
    """PESQ (ITU-T P.862): MOS-LQO, wide band at 16 kHz and narrow band at 8 kHz.

    Args:
        sample_rate: 8000 or 16000 Hz; the metric is unavailable at others.
        by_number: of `UtteranceMean`.
    """

    package = "pesq"
    sample_rates = (8000, 16000)

    def __init__(self, sample_rate: int, by_number: bool = False):
        super().__init__(sample_rate, by_number)
        self.min_length = sample_rate // 4  # of which the package needs more

    def measure_signal(self, estimate: Tensor, source: Tensor) -> float:
        """PESQ of one estimate [T]; 1, the lowest, if the package detects no speech in it."""
        from torchmetrics.functional.audio.pesq import perceptual_evaluation_speech_quality as pesq

        mode = "wb" if self.sample_rate == 16000 else "nb"
        try:
            return float(pesq(estimate, source, self.sample_rate, mode))
        except Exception as error:  # the package's own classes: no utterance, less than 1/4 second
            if not any(word in str(error).lower() for word in ("utterance", "second long")):
                raise
            return 1.0


class Stoi(PackageMetric):
    """Short-time objective intelligibility, at most 1 (Taal et al., 2011).

    Args:
        sample_rate: of the signals, in Hz.
        by_number: of `UtteranceMean`.
    """

    package = "pystoi"

    def __init__(self, sample_rate: int, by_number: bool = False):
        super().__init__(sample_rate, by_number)
        self.min_length = math.ceil(STOI_FRAME * sample_rate)

    def measure_signal(self, estimate: Tensor, source: Tensor) -> float:
        """STOI of one estimate [T]."""
        from torchmetrics.functional.audio.stoi import short_time_objective_intelligibility as stoi

        return float(stoi(estimate, source, self.sample_rate))
