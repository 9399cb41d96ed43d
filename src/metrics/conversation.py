"""Error rates of transcripts of several speakers, computed by meeteval.

Reference and hypotheses are given to it as the lines of .stm files, so that the values are those
of its command line on the files that are written.
"""

import logging
import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from typing import Any

from src.metrics.base import Metric, ratio
from src.utils.options import check_choice, check_number
from src.utils.segments import Segment, stm

logger = logging.getLogger(__name__)

PACKAGE = "meeteval"
HYPOTHESES = ("separated", "mixture", "sources")
ERRORS = ("substitutions", "deletions", "insertions")
MOST_CELLS = 3e9  # of the table of ORC-WER, which takes about a minute


class ConversationErrorRate(Metric):
    """Errors over the words of the reference, of all recordings together.

    It is left out, with a sentence in the log, without the package meeteval.

    Args:
        hypothesis: `separated`, the transcripts of a separator's streams; `mixture`, that of the
            whole recording as one stream; or `sources`, those of the clean sources. Recordings
            without it have no score.

    Attributes:
        unavailable: why the metric can't be computed; empty if it can.

    Raises:
        ValueError: another hypothesis.
    """

    higher_is_better = False

    def __init__(self, hypothesis: str = "separated"):
        super().__init__()
        check_choice("hypothesis", hypothesis, HYPOTHESES)
        self.hypothesis, self.unavailable = hypothesis, ""
        if find_spec(PACKAGE) is None:
            self.unavailable = report_missing()
            self.values = ()

    @abstractmethod
    def count(self, reference: Any, hypothesis: Any) -> Any:
        """meeteval's error rate of one recording, both in the form of its STM."""

    def update(
        self, id: list[str], reference_segments: list[list[Segment]] | None = None, **batch
    ) -> list[float | None] | None:
        """Add a batch, if the metric is available.

        Args:
            id: names of the recordings.
            reference_segments: of each recording; None: what is said isn't known.
            batch: `<hypothesis>_segments`, those of each recording, or None.

        Returns:
            The error rate of each recording; None if the metric is unavailable, or without
            reference.
        """
        if self.unavailable or reference_segments is None:
            return None
        lists = {key: batch.get(f"{key}_segments", [None] * len(id)) for key in HYPOTHESES}
        scores: list[float | None] = []
        for item, (name, reference) in enumerate(zip(id, reference_segments, strict=True)):
            given = {key: own[item] for key, own in lists.items() if own[item] is not None}
            if self.hypothesis not in given or not self.affordable(name, reference, given):
                scores.append(None)
                continue
            counts = self.counted(name, reference, given[self.hypothesis])
            for key, value in counts.items():
                self.add(key, value)
            scores.append(rate_of(counts))
        return scores

    def affordable(
        self, name: str, reference: list[Segment], hypotheses: dict[str, list[Segment]]
    ) -> bool:
        """Whether a recording can be scored in a short time, with each of its transcripts.

        Args:
            name: of the recording.
            reference: its segments.
            hypotheses: those of its transcripts, by the names in `HYPOTHESES`.
        """
        return True

    def counted(
        self, name: str, reference: list[Segment], hypothesis: list[Segment]
    ) -> dict[str, int]:
        """Errors of each kind and words of the reference of a recording."""
        from meeteval.io import STM

        pair = (STM.parse(stm(name, segments)) for segments in (reference, hypothesis))
        (own,) = self.count(*pair).values()
        counts = {kind: getattr(own, kind) for kind in ERRORS}
        return counts | {"reference_length": own.length}

    def compute(self) -> dict[str, float]:
        """The error rate over all recordings; empty where none has such a transcript."""
        if "reference_length" not in self.terms:
            return {}
        return {"": rate_of({key: self.total(key) for key in (*ERRORS, "reference_length")})}


@cache
def report_missing() -> str:
    """Log once, and return, why there are no error rates."""
    message = f"Error rates of conversations need `pip install {PACKAGE}`."
    logger.warning("%s They are left out.", message)
    return message


def rate_of(counts: dict[str, Any]) -> float:
    """Errors over the words of the reference."""
    return ratio(sum(counts[kind] for kind in ERRORS), counts["reference_length"])


class CpWer(ConversationErrorRate):
    """cpWER: WER of each speaker's concatenated words, for the best permutation of the streams.

    Watanabe et al., "CHiME-6 Challenge", arXiv 2004.09249.
    """

    def count(self, reference: Any, hypothesis: Any) -> Any:
        """meeteval's cpWER of one recording."""
        from meeteval.wer import cpwer

        return cpwer(reference, hypothesis)


class OrcWer(ConversationErrorRate):
    """ORC-WER: each utterance of the reference counts in the stream where it fits best.

    Sklyar et al., "Multi-turn RNN-T for streaming recognition of multi-party speech", arXiv
    2112.10200. Who speaks isn't scored. Its cost grows with the product of the streams' lengths;
    recordings of more than some minutes have no score, for none of their transcripts, so that
    those are scored on the same recordings.
    """

    def affordable(
        self, name: str, reference: list[Segment], hypotheses: dict[str, list[Segment]]
    ) -> bool:
        """Whether the tables of all transcripts have few enough cells."""
        words = sum(len(own.text.split()) for own in reference)
        for segments in hypotheses.values():
            streams: dict[str, int] = defaultdict(lambda: 1)
            for own in segments:
                streams[own.speaker] += len(own.text.split())
            if words * math.prod(streams.values()) > MOST_CELLS:
                logger.info("%s: no ORC-WER, which takes too long for so many words.", name)
                return False
        return True

    def count(self, reference: Any, hypothesis: Any) -> Any:
        """meeteval's ORC-WER of one recording."""
        from meeteval.wer import orcwer

        return orcwer(reference, hypothesis)


class TcpWer(ConversationErrorRate):
    """tcpWER: cpWER in which a word only counts near the time when it was said.

    von Neumann et al., "MeetEval", arXiv 2307.11394.

    Args:
        hypothesis: as of `ConversationErrorRate`.
        collar: seconds by which the times of words may differ.

    Raises:
        ValueError: another hypothesis, or a collar below 0.
    """

    def __init__(self, hypothesis: str = "separated", collar: float = 5.0):
        check_number("collar", collar, inclusive=True)
        super().__init__(hypothesis)
        self.collar = collar

    def count(self, reference: Any, hypothesis: Any) -> Any:
        """meeteval's tcpWER of one recording."""
        from meeteval.wer import tcpwer

        # Of which it takes long segments for times that are not in seconds.
        logging.getLogger("preprocess").setLevel(logging.ERROR)
        return tcpwer(reference, hypothesis, collar=Decimal(str(self.collar)))


class Recovered(CpWer):
    """How much of what mixing costs a recogniser separation brings back, in cpWER.

    (mixture - separated) / (mixture - sources): 1 where the streams are transcribed as well as the
    clean sources, 0 where no better than the mixture as one stream. 0.5 halves the cost.
    """

    higher_is_better = True

    def update(
        self, id: list[str], reference_segments: list[list[Segment]] | None = None, **batch
    ) -> list[float | None] | None:
        """Add a batch, if the metric is available.

        Args:
            id: names of the recordings.
            reference_segments: of each recording; None: what is said isn't known.
            batch: `separated_segments`, `mixture_segments` and `sources_segments` of each
                recording, which doesn't count where one is None.

        Returns:
            None: a single recording may have lost nothing.
        """
        lists = [batch.get(f"{key}_segments", [None] * len(id)) for key in HYPOTHESES]
        if self.unavailable or reference_segments is None:
            return None
        for name, reference, *hypotheses in zip(id, reference_segments, *lists, strict=True):
            if any(hypothesis is None for hypothesis in hypotheses):
                continue
            for key, hypothesis in zip(HYPOTHESES, hypotheses, strict=True):
                counts = self.counted(name, reference, hypothesis)
                self.add(key, sum(counts[kind] for kind in ERRORS))
        return None

    def compute(self) -> dict[str, float]:
        """The fraction over all recordings; empty where the mixture costs nothing."""
        fraction = recovered({key: self.total(key) for key in HYPOTHESES})
        return {} if math.isnan(fraction) else {"": fraction}


def recovered(errors: Mapping[str, float]) -> float:
    """(mixture - separated) / (mixture - sources); NaN where the mixture costs nothing.

    Args:
        errors: or error rates, by the names in `HYPOTHESES`.
    """
    separated, mixture, sources = (errors[key] for key in HYPOTHESES)
    lost = mixture - sources
    return (mixture - separated) / lost if lost > 0 else math.nan
